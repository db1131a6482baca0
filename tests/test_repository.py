"""The repository itself: the import package's links, the locks, and the cluster's configuration."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDERS = ("kernels", "model", "ingest", "actors", "training", "cluster")


def test_import_package_links_every_folder() -> None:
    for folder in FOLDERS:
        link = ROOT / "lookalike" / folder
        assert link.is_symlink()
        assert link.readlink() == Path("..") / folder


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


def test_cluster_configuration_is_one_that_ray_takes() -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    config = yaml.safe_load((ROOT / "ray_config.yaml").read_text())
    validate_config(fillout_defaults(config))
    assert config["provider"]["use_internal_ips"]
