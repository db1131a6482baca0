"""The repository itself: its layout, imports, locks, documents, and the cluster's configuration."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lookalike import __version__

ROOT = Path(__file__).parents[1]
FOLDERS = ("kernels", "model", "ingest", "actors", "training", "cluster")
CODE = ("lookalike/storage", *FOLDERS)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# Files are opened in lookalike/storage. What opens one elsewhere, and why.
OPENS_FILES = {
    "actors/index/scratch.py": "scratch files without a name",
    "actors/shard.py": "what Linux says of the memory of this process",
    "cluster/cli/query.py": "the photo given on the command line",
    "cluster/page/routes.py": "files of the package",
    "ingest/demo/sample.py": "the drawn sample is a local folder",
    "ingest/photos/fetch.py": "a local photo, which may be a pipe or lead out of its folder",
    "ingest/store/upgrade.py": "version 0.1 kept its stores in local folders",
    "ingest/store/version_one/reader.py": "version 0.1 kept its stores in local folders",
    "kernels/memory.py": "a setting of the system",
    "model/files.py": "a model's folder, which Keras needs on this machine",
    "model/keras_runtime.py": "what TensorFlow prints while it starts, shown only if it fails",
    "model/saved_model.py": "a model's folder, which Keras needs on this machine",
}
_OPENING = {"read_bytes", "read_text", "write_bytes", "write_text", "unlink", "mkdir", "rmdir", "touch", "iterdir"}
_OPENING_OF = {("os", "open"), ("os", "replace"), ("os", "rename"), ("tempfile", "TemporaryFile"), ("shutil", "rmtree")}


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Every Python file of some folders, relative to the root."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def imported(module: ast.Module) -> set[str]:
    """The names of all packages that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def opens_files(module: ast.Module) -> bool:
    """Whether a file calls what opens, lists, makes or removes a file."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id == "open":
            return True
        if isinstance(function, ast.Attribute):
            owner = function.value.id if isinstance(function.value, ast.Name) else ""
            if function.attr in _OPENING or (owner, function.attr) in _OPENING_OF:
                return True
            mode = node.args[0] if node.args else None
            if function.attr == "open" and isinstance(mode, ast.Constant) and str(mode.value).strip("rwxab") == "":
                return True
    return False


def after_import(module: str) -> set[str]:
    """The top-level packages that a fresh interpreter holds after it imported a module."""
    script = f"import {module}, sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- layout


def test_import_package_links_every_folder() -> None:
    for folder in FOLDERS:
        link = ROOT / "lookalike" / folder
        assert link.is_symlink()
        assert link.readlink() == Path("..") / folder


def test_files_and_functions_are_short_enough_to_be_read() -> None:
    for name, module in sources(*CODE):
        assert len((ROOT / name).read_text().splitlines()) <= MAX_FILE_LINES, name
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, f"{name}: {node.name}"


def test_every_module_says_what_it_is_for() -> None:
    for name, module in sources(*CODE):
        assert ast.get_docstring(module), name


def test_files_are_opened_in_storage_or_for_a_known_reason() -> None:
    opening = {name for name, module in sources(*FOLDERS) if opens_files(module)}
    assert opening == OPENS_FILES.keys()


def test_no_file_names_a_machine() -> None:
    personal = re.compile(r"/(?:work|home|root|Users)/[\w.]|(?<!no-emit-)(?:extra-)?index-url\b|\bPIP_\w+=")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not names:
        pytest.skip("needs the repository's list of files")
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        if path.is_symlink() or path == Path(__file__) or not path.is_file():
            continue
        found = personal.search(path.read_bytes().decode("utf-8", "replace"))
        assert found is None, f"{name}: {found}"


# --- imports; the directions between the folders are contracts in pyproject.toml


def test_lance_is_imported_by_the_upgrade_alone() -> None:
    importing = {name for name, module in sources(*CODE) if "lance" in imported(module)}
    assert importing == {"ingest/store/version_one/reader.py"}


def test_s3_is_imported_by_storage_alone() -> None:
    importing = {name for name, module in sources(*CODE) if imported(module) & {"boto3", "botocore"}}
    assert importing == {f"lookalike/storage/{name}.py" for name in ("s3", "s3_reader", "s3_retry")}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("lookalike.kernels.hamming", {"pyarrow", "ray", "boto3", "keras", "tensorflow"}),
        ("lookalike.cluster.cli.main", {"numpy", "pyarrow", "ray", "boto3", "keras", "tensorflow"}),
        ("lookalike.ingest.store.collection", {"ray", "boto3", "keras", "tensorflow"}),
        ("lookalike.actors.shard", {"boto3", "keras", "tensorflow"}),
        ("lookalike.cluster.http.app", {"boto3", "keras", "tensorflow"}),
    ],
)
def test_import_of_a_module_costs_nothing_that_it_does_not_need(module: str, unwanted: set[str]) -> None:
    assert not after_import(module) & unwanted


# --- locks and versions


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-bench.lock"])
def test_locks_name_no_index_or_host(lock: str) -> None:
    for line in (ROOT / lock).read_text().splitlines():
        assert re.fullmatch(r"[\w.-]+==[\w.+!]+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line


@pytest.mark.parametrize(
    ("lock", "extras"), [("requirements.lock", ("cpu", "dev", "upgrade")), ("requirements-bench.lock", ("bench",))]
)
def test_locks_hold_every_dependency(lock: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [] if extras == ("bench",) else list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.MULTILINE))
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= locked


def test_core_dependencies_leave_out_what_an_extra_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    for extra in ("upgrade", "cpu", "gpu"):
        assert not core & {
            canonicalize_name(Requirement(line).name) for line in project["optional-dependencies"][extra]
        }


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    image = yaml.safe_load((ROOT / "ray_config.yaml").read_text())["docker"]["image"]
    assert newest is not None
    assert {project["version"], newest[1], image.rpartition(":")[2]} == {__version__}


# --- documents


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = document.parent / file if file else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text()), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_in_documents_exist(document: Path) -> None:
    if document.name == "CHANGELOG.md":  # it is about the past, too
        pytest.skip("speaks of earlier versions")
    for name in re.findall(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|pyx|c|h|md|yaml|json))`", document.read_text()):
        here = [folder / name for folder in (ROOT, ROOT / "model", ROOT / "benchmarks")]
        assert any(path.exists() for path in here), name


def test_glossary_has_each_word_once() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| [^|]+ \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    words = [word for row in rows if row != "word" for word in re.sub(r" \(.+\)", "", row).split(", ")]
    assert len(words) > 50
    assert sorted(words) == sorted(set(words))


# --- configuration


def test_cluster_configuration_is_one_that_ray_takes() -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    config = yaml.safe_load((ROOT / "ray_config.yaml").read_text())
    validate_config(fillout_defaults(config))
    assert config["provider"]["use_internal_ips"]
