"""The model folder, whole and damaged. None of this needs TensorFlow."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import COLOUR, OUTLINE, tiny_model

from lookalike.errors import BadModel
from lookalike.model import saved_model
from lookalike.model.saved_model import Model, load, save
from lookalike.model.spec import ModelSpec

ARCHIVES = ("parameters.npz", "thresholds.npz")
SPECIFIED = ("model.json", *ARCHIVES, "card.md")
MAX_PEAK_BYTES = 1 << 20  # of one load; the tiny folder has 16 kB


def with_sums(folder: Path) -> None:
    """Write the sums anew, so that a change is one of the model and not damage."""
    lines = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in SPECIFIED)
    (folder / "SHA256SUMS").write_text("".join(lines))


def without_sums(folder: Path) -> None:
    """As folders of earlier versions are."""
    (folder / "SHA256SUMS").unlink()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tiny_model(), tmp_path / "m")
    return tmp_path / "m"


@functools.cache
def contents() -> dict[str, bytes]:
    """The files of a saved model."""
    with tempfile.TemporaryDirectory() as scratch:
        save(tiny_model(), Path(scratch) / "m")
        return {path.name: path.read_bytes() for path in (Path(scratch) / "m").iterdir()}


@contextlib.contextmanager
def folder_of(contents: dict[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in contents.items():
            (Path(scratch) / name).write_bytes(content)
        yield Path(scratch)


def load_bounded(folder: Path) -> Model:
    """Load, and see to it that little memory was taken, also where it failed."""
    tracemalloc.start()
    try:
        return load(folder)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MAX_PEAK_BYTES


def load_or_reason(folder: Path) -> Model | str:
    try:
        return load_bounded(folder)
    except BadModel as error:
        return str(error)


def assert_same_arrays(found: Model, expected: Model) -> None:
    np.testing.assert_array_equal(found.short_positions, expected.short_positions)
    for one, other in zip(found.thresholds, expected.thresholds, strict=True):
        np.testing.assert_array_equal(one.columns, other.columns)
        np.testing.assert_array_equal(one.values, other.values)
    assert found.parameters.keys() == expected.parameters.keys()
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array)


def assert_equal(found: Model, expected: Model) -> None:
    assert (found.spec, found.card) == (expected.spec, expected.card)
    assert_same_arrays(found, expected)


def test_load_gives_what_was_saved(saved: Path) -> None:
    found = load(saved)
    assert_equal(found, tiny_model())
    assert found.spec == ModelSpec.load(saved)
    assert sorted(p.name for p in saved.iterdir()) == sorted([*SPECIFIED, "SHA256SUMS"])


def test_load_reads_the_folders_of_earlier_versions(saved: Path) -> None:
    without_sums(saved)
    assert_equal(load(saved), tiny_model())


def test_save_writes_sums_that_sha256sum_reads(saved: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=saved, check=True)


def test_load_needs_no_tensorflow(saved: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from lookalike.model.spec import ModelSpec\n"
        "from lookalike.model import encoder, saved_model\n"
        "from lookalike.model.backbones import darknet_file\n"
        "from lookalike.training.unsupervised import fit, from_catalogue\n"
        "ModelSpec.load(Path(sys.argv[1])); saved_model.load(Path(sys.argv[1]))\n"
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, saved], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_save_never_changes_a_version(saved: Path) -> None:
    before = (saved / "model.json").read_bytes()
    with pytest.raises(FileExistsError, match="another version"):
        save(tiny_model(1), saved)
    assert (saved / "model.json").read_bytes() == before


def test_save_leaves_nothing_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lookalike.storage.local.sync", full)
    with pytest.raises(OSError, match="No space left"):
        save(tiny_model(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_save_refuses_parameters_of_another_width(tmp_path: Path, width: float) -> None:
    with pytest.raises(BadModel, match=r"parameters\.npz.*conv1(/kernel|_bn)"):
        save(tiny_model(width=width), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_save_refuses_columns_beyond_the_features(tmp_path: Path) -> None:
    model = tiny_model()
    model.thresholds[0].columns[0] = 64  # conv2@2x2 at this width has 4 * 16 features, 0..63
    with pytest.raises(BadModel, match=r"thresholds\.npz: outline/columns points outside 0\.\.63"):
        save(model, tmp_path / "m")


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_load_gives_the_saved_model_or_bad_model_whatever_the_damage(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(contents())))
    damaged = data.draw(damages(contents()[name]))
    with folder_of(contents() | {name: damaged}) as folder:
        found = load_or_reason(folder)
        if isinstance(found, str):
            assert name in found
        else:
            assert_equal(found, tiny_model())


@given(st.data())
@settings(max_examples=600, deadline=None)
def test_load_without_sums_gives_the_saved_arrays_or_bad_model_whatever_the_damage(data: st.DataObject) -> None:
    """What the files' own structure and the hash of the arrays find; sums would hide most of it."""
    name = data.draw(st.sampled_from([*ARCHIVES, *ARCHIVES, "model.json"]))
    damaged = data.draw(damages(contents()[name]))
    with folder_of({n: c for n, c in (contents() | {name: damaged}).items() if n != "SHA256SUMS"}) as folder:
        found = load_or_reason(folder)
        if isinstance(found, Model):
            assert_same_arrays(found, tiny_model())
        elif name == "model.json":  # another width there is one that the parameters do not have
            assert str(folder) in found
        else:
            assert name in found


@st.composite
def damages(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut short, flip a bit, overwrite, take out, put in: the start and the end, where the structure is, more often."""
    end = len(content)
    near = st.integers(0, min(300, end - 1))
    position = draw(st.integers(0, end - 1) | near | near.map(lambda i: end - 1 - i))
    inserted = st.binary(min_size=1, max_size=8) | st.just(b"\xff" * 8)
    kind = draw(st.sampled_from(["cut", "flip", "flip", "overwrite", "remove", "insert"]))
    if kind == "cut":
        return content[:position]
    if kind == "flip":
        return content[:position] + bytes([content[position] ^ 1 << draw(st.integers(0, 7))]) + content[position + 1 :]
    if kind == "overwrite":
        new = draw(inserted)
        return content[:position] + new + content[position + len(new) :]
    if kind == "remove":
        return content[:position] + content[position + draw(st.integers(1, 100)) :]
    return content[:position] + draw(inserted) + content[position:]


@pytest.mark.parametrize("name", ["model.json", "thresholds.npz"])
def test_load_gives_the_saved_arrays_or_bad_model_at_every_byte(name: str) -> None:
    content = contents()[name]
    with folder_of(contents()) as folder:
        without_sums(folder)
        for i in range(len(content)):
            flipped = content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :]
            for damaged in (content[:i], flipped):
                (folder / name).write_bytes(damaged)
                with contextlib.suppress(BadModel):
                    assert_same_arrays(load(folder), tiny_model())


@pytest.mark.parametrize("name", [*SPECIFIED, "SHA256SUMS"])
@pytest.mark.parametrize("other", ["folder", "loop", "pipe", "endless"])
def test_load_names_what_is_no_file(saved: Path, name: str, other: str) -> None:
    path = saved / name
    path.unlink()
    match other:
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(name)
        case "pipe":
            os.mkfifo(path)
        case "endless":
            path.symlink_to("/dev/zero")
    with pytest.raises(BadModel, match=name):
        load_bounded(saved)


@pytest.mark.parametrize("name", SPECIFIED)
def test_load_names_a_missing_file(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(BadModel, match=name):
        load(saved)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything, so it becomes nobody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", [*SPECIFIED, "SHA256SUMS"])
def test_load_names_a_file_that_it_may_not_read(name: str) -> None:
    with folder_of(contents()) as folder:
        folder.chmod(0o755)
        (folder / name).chmod(0)
        with unprivileged(), pytest.raises(BadModel, match=f"{name} cannot be read: Permission denied"):
            load(folder)


def claim_terabytes_in_a_header(content: bytes) -> bytes:
    """NumPy would allocate what the header of an array says."""
    shape = re.search(rb"'shape': (\([\d, ]+\), \}) {16}", content)
    assert shape is not None
    return content.replace(shape[0], b"'shape': (1099511627776,), }".ljust(len(shape[0])))


def claim_gigabytes_in_the_zip(content: bytes) -> bytes:
    """The sizes that the zip's directory gives of each member."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {info.file_size for info in archive.infolist()}
    for size in sizes:
        content = content.replace(2 * size.to_bytes(4, "little"), 2 * b"\xfe\xff\xff\xff")
    return content


def claim_terabytes_in_the_zip(content: bytes) -> bytes:
    """The size and position of the zip's directory itself."""
    return content[:-10] + b"\xff\xff\xff\x7f" * 2 + content[-2:]


def compress_zeros(content: bytes) -> bytes:
    """Four megabytes in four kilobytes: the file is no larger than it may be, what it unpacks to is."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bomb:
        for position, name in enumerate(archive.namelist()):
            bomb.writestr(name, archive.read(name) + bytes(4 << 20 if position == 0 else 0))
    return out.getvalue()


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize(
    "bomb",
    [claim_terabytes_in_a_header, claim_gigabytes_in_the_zip, claim_terabytes_in_the_zip, compress_zeros],
    ids=lambda f: f.__name__,
)
def test_load_takes_no_more_memory_than_the_spec_needs(saved: Path, name: str, bomb: Callable[[bytes], bytes]) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(bomb(content))
    assert (saved / name).read_bytes() != content
    without_sums(saved)
    with pytest.raises(BadModel, match=f"{name} is damaged"):
        load_bounded(saved)


@pytest.mark.parametrize("name", [*SPECIFIED, "SHA256SUMS"])
def test_load_reads_no_more_than_a_file_can_have(saved: Path, name: str) -> None:
    with (saved / name).open("r+b") as file:
        file.truncate(1 << 40)  # sparse: it takes no room
    with pytest.raises(BadModel, match=f"{name} is larger"):
        load_bounded(saved)


@pytest.mark.parametrize("name", ARCHIVES)
def test_load_refuses_files_of_two_models(saved: Path, tmp_path: Path, name: str) -> None:
    save(tiny_model(1), tmp_path / "other")
    (tmp_path / "other" / name).replace(saved / name)
    with_sums(saved)
    with pytest.raises(BadModel, match=rf"{name}.*SHA-256"):
        load(saved)


def test_load_refuses_a_source_that_the_backbone_lacks(saved: Path) -> None:
    spec = json.loads((saved / "model.json").read_text())
    spec["components"][0]["source"] = "conv99"
    (saved / "model.json").write_text(json.dumps(spec))
    with_sums(saved)
    with pytest.raises(BadModel, match=r"model\.json: darknet19: .*conv99"):
        load(saved)


def test_load_refuses_a_grid_finer_than_its_plane(tmp_path: Path) -> None:
    fine, finer = (OUTLINE.model_copy(update={"source": source}) for source in ("conv2@9x9", "pool2@9x9"))
    save(tiny_model(components=(fine, COLOUR)), tmp_path / "m")  # conv2 has 16 x 16 cells, pool2 8 x 8
    with pytest.raises(BadModel, match=r"model\.json: pool2@9x9 is finer than the 8 x 8 cells"):
        save(tiny_model(components=(finer, COLOUR)), tmp_path / "n")


@pytest.mark.parametrize("line", ["", "0" * 64, "0" * 64 + "  other", "z" * 64 + "  card.md"])
def test_load_refuses_sums_that_are_none(saved: Path, line: str) -> None:
    lines = (saved / "SHA256SUMS").read_text().splitlines()
    (saved / "SHA256SUMS").write_text("\n".join([*lines[:3], line]))
    with pytest.raises(BadModel, match="SHA256SUMS is damaged"):
        load(saved)


def test_load_looks_at_the_format_before_the_other_files(saved: Path) -> None:
    for path in saved.iterdir():
        if path.name != "model.json":
            path.unlink()
    (saved / "model.json").write_text('{"format": 2, "files": ["weights.bin"]}')
    with pytest.raises(BadModel, match="reads formats 1 to 1"):
        load(saved)


def test_arrays_sha256_does_not_depend_on_the_order_of_names() -> None:
    parameters = tiny_model().parameters
    turned = dict(reversed(list(parameters.items())))
    assert saved_model.arrays_sha256({}, parameters) == saved_model.arrays_sha256({}, turned)
