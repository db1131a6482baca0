"""A model on disk: one folder, written whole or not at all, read without TensorFlow.

    model.json       the spec
    thresholds.npz   per component <name>/columns and <name>/values; short_positions
    parameters.npz   the network's arrays by name, float32, down to the deepest layer that a component needs
    card.md          what the model is, for people
    SHA256SUMS       of those four, as ``sha256sum -c`` reads it; folders of earlier versions have none

The spec holds a hash of all arrays, so a folder put together from two models is refused, also without the last file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import BadModel
from lookalike.model.backbones.layers import Parameters, Table, channels, parameter_shapes, sides
from lookalike.model.backbones.registry import network_table
from lookalike.model.descriptor import Thresholds
from lookalike.model.features import colour
from lookalike.model.files import ArrayType, max_archive_bytes, parse_arrays, read_bytes
from lookalike.model.spec import COLOUR_SOURCE, MAX_SPEC_BYTES, SPEC_FILE, ComponentSpec, ModelSpec, parse_source
from lookalike.storage.local import new_folder

THRESHOLDS_FILE = "thresholds.npz"
PARAMETERS_FILE = "parameters.npz"
CARD_FILE = "card.md"
SUMS_FILE = "SHA256SUMS"
FILES = (SPEC_FILE, THRESHOLDS_FILE, PARAMETERS_FILE, CARD_FILE)
"""What ``SUMS_FILE`` has a line for."""

MAX_CARD_BYTES = 1 << 20
_MAX_SUMS_BYTES = 1 << 12

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Model:
    """All that a folder holds.

    Attributes
    ----------
    spec : ModelSpec
    thresholds : tuple of Thresholds
        One per component, in order.
    short_positions : ndarray of int32, shape (short_bits,)
        Bits of the long code that make the short one.
    parameters : mapping of str to ndarray of float32
        As ``layers.parameter_shapes`` names them.
    card : str
        Markdown.
    """

    spec: ModelSpec
    thresholds: tuple[Thresholds, ...]
    short_positions: NDArray[np.int32]
    parameters: Parameters
    card: str


def arrays_sha256(thresholds: Arrays, parameters: Arrays) -> str:
    """Hash names, types, shapes and values, whatever the order of the mappings."""
    digest = hashlib.sha256()
    for arrays in (thresholds, parameters):
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name])
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def threshold_arrays(
    names: tuple[str, ...], thresholds: tuple[Thresholds, ...], short_positions: NDArray[np.int32]
) -> dict[str, NDArray[Any]]:
    """Name the arrays of ``thresholds.npz``."""
    arrays: dict[str, NDArray[Any]] = {"short_positions": short_positions}
    for name, part in zip(names, thresholds, strict=True):
        arrays |= {f"{name}/columns": part.columns, f"{name}/values": part.values}
    return arrays


def save(model: Model, folder: Path) -> None:
    """Write a model folder, whole or not at all.

    Raises
    ------
    FileExistsError
        The folder is there and not empty: a version is never changed.
    BadModel
        The parts do not fit together.
    """
    folder = Path(folder)
    names = tuple(c.name for c in model.spec.components)
    thresholds = threshold_arrays(names, model.thresholds, model.short_positions)
    _check_arrays(folder / THRESHOLDS_FILE, thresholds, _threshold_types(model.spec))
    _check_arrays(folder / PARAMETERS_FILE, model.parameters, _parameter_types(model.spec, folder))
    _check_values(model, thresholds, folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} already holds a model; save another version beside it")
    with new_folder(folder) as draft:
        np.savez(draft / THRESHOLDS_FILE, allow_pickle=False, **thresholds)
        np.savez(draft / PARAMETERS_FILE, allow_pickle=False, **model.parameters)
        (draft / CARD_FILE).write_text(model.card, encoding="utf-8")
        (draft / SPEC_FILE).write_text(model.spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
        lines = (f"{hashlib.sha256((draft / name).read_bytes()).hexdigest()}  {name}\n" for name in FILES)
        (draft / SUMS_FILE).write_text("".join(lines), encoding="utf-8")


def load(folder: Path) -> Model:
    """Read a model folder.

    Raises
    ------
    BadModel
        The folder is of a format that this version does not read; a file is missing or damaged; or the files do not
        belong together. The message says which.
    """
    folder = Path(folder)
    path = {name: folder / name for name in FILES}
    content = read_bytes(path[SPEC_FILE], MAX_SPEC_BYTES)
    spec = ModelSpec.parse(content, path[SPEC_FILE])  # first of all: another format may have other files
    sums = _load_sums(folder)
    _check_sum(path[SPEC_FILE], content, sums)
    stored = _load_arrays(path[THRESHOLDS_FILE], _threshold_types(spec), sums)
    parameters = _load_arrays(path[PARAMETERS_FILE], _parameter_types(spec, folder), sums)
    content = read_bytes(path[CARD_FILE], MAX_CARD_BYTES)
    _check_sum(path[CARD_FILE], content, sums)
    try:
        card = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadModel(f"{path[CARD_FILE]} is not text: {error}") from error
    thresholds = tuple(Thresholds(stored[f"{c.name}/columns"], stored[f"{c.name}/values"]) for c in spec.components)
    model = Model(spec, thresholds, stored["short_positions"], parameters, card)
    _check_values(model, stored, folder)
    return model


def _load_arrays(path: Path, types: Mapping[str, ArrayType], sums: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    content = read_bytes(path, max_archive_bytes(types))
    _check_sum(path, content, sums)
    return parse_arrays(path, content, types)


def _load_sums(folder: Path) -> dict[str, str]:
    """Read the SHA-256 of each file; empty for a folder of an earlier version."""
    path = folder / SUMS_FILE
    if not path.exists() and not path.is_symlink():
        return {}
    text = read_bytes(path, _MAX_SUMS_BYTES).decode("utf-8", errors="replace")
    lines = [re.fullmatch(r"([0-9a-f]{64})  (\S+)", line) for line in text.splitlines()]
    sums = {line[2]: line[1] for line in lines if line is not None}
    if None in lines or sums.keys() != set(FILES):
        raise BadModel(f"{path} is damaged: it should have the SHA-256 of {', '.join(FILES)}, a line each")
    return sums


def _check_sum(path: Path, content: bytes, sums: Mapping[str, str]) -> None:
    if sums and hashlib.sha256(content).hexdigest() != sums[path.name]:
        raise BadModel(f"{path} is damaged or was changed: its SHA-256 is not that in {SUMS_FILE}")


def _threshold_types(spec: ModelSpec) -> dict[str, ArrayType]:
    types = {"short_positions": ArrayType(np.dtype(np.int32), (spec.short_bits,))}
    for component in spec.components:
        types[f"{component.name}/columns"] = ArrayType(np.dtype(np.int32), (component.bits,))
        types[f"{component.name}/values"] = ArrayType(np.dtype(np.float32), (component.bits,))
    return types


def _parameter_types(spec: ModelSpec, folder: Path) -> dict[str, ArrayType]:
    shapes = parameter_shapes(_table(spec, folder))
    return {name: ArrayType(np.dtype(np.float32), shape) for name, shape in shapes.items()}


def _table(spec: ModelSpec, folder: Path) -> Table:
    try:
        return network_table(spec.backbone, spec.width, spec.layer_sources)
    except ValueError as error:
        raise BadModel(f"{folder / SPEC_FILE}: {error}") from error


def _check_arrays(path: Path, arrays: Arrays, types: Mapping[str, ArrayType]) -> None:
    """Check before writing what ``parse_arrays`` would refuse to read."""
    if differ := sorted(types.keys() ^ arrays.keys()):
        word = "lacks" if differ[0] in types else "should not have"
        raise BadModel(f"{path} {word} the array {differ[0]} (and {len(differ) - 1} more)")
    for name, kind in types.items():
        array = arrays[name]
        if (array.dtype, array.shape) != kind:
            raise BadModel(f"{path}: {name} is {array.dtype} of {array.shape}, expected {kind.dtype} of {kind.shape}")


def _check_values(model: Model, thresholds: Arrays, folder: Path) -> None:
    """Check what types and shapes leave open: positions out of range, grids finer than planes, arrays of two models."""
    spec = model.spec
    table = _table(spec, folder)
    planes, per_layer = sides(table, spec.input_px), channels(table)
    for component in spec.components:
        name = f"{component.name}/columns"
        try:
            _check_range(folder, name, thresholds[name], _feature_count(component, planes, per_layer))
        except ValueError as error:
            raise BadModel(f"{folder / SPEC_FILE}: {error}") from error
    _check_range(folder, "short_positions", model.short_positions, spec.long_bits)
    if arrays_sha256(thresholds, model.parameters) != spec.arrays_sha256:
        raise BadModel(
            f"the arrays in {folder / THRESHOLDS_FILE} and {PARAMETERS_FILE} are not those that {SPEC_FILE} was "
            "written for (their SHA-256 differs)"
        )


def _feature_count(component: ComponentSpec, planes: Mapping[str, int], per_layer: Mapping[str, int]) -> int:
    if component.source == COLOUR_SOURCE:
        return colour.FEATURES
    layer, rows, columns = parse_source(component.source)
    if max(rows, columns) > planes[layer]:
        raise ValueError(f"{component.source} is finer than the {planes[layer]} x {planes[layer]} cells of that layer")
    return rows * columns * per_layer[layer]


def _check_range(folder: Path, name: str, positions: NDArray[np.int32], end: int) -> None:
    if positions.min() < 0 or positions.max() >= end:
        raise BadModel(f"{folder / THRESHOLDS_FILE}: {name} points outside 0..{end - 1}")
