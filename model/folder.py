"""A model on disk: one folder of four files, written whole or not at all, read without TensorFlow.

    model.json       the spec
    thresholds.npz   per component <name>/columns and <name>/values; short_positions
    parameters.npz   the network's arrays by name, float32, down to the deepest layer that a component asks for
    card.md          what the model is, for people

The spec holds a hash of all arrays, so a folder put together from two models is refused.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import BadModel
from lookalike.model import colour, darknet19, googlenet
from lookalike.model.descriptor import Thresholds
from lookalike.model.layers import Table, channels, parameter_shapes, truncated
from lookalike.model.spec import COLOUR_SOURCE, SPEC_FILE, ModelSpec, parse_source
from lookalike.storage.local import new_folder

THRESHOLDS_FILE = "thresholds.npz"
PARAMETERS_FILE = "parameters.npz"
CARD_FILE = "card.md"

BACKBONES: dict[str, ModuleType] = {"darknet19": darknet19, "googlenet": googlenet}

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
    parameters: Arrays
    card: str


def network_table(spec: ModelSpec) -> Table:
    """Take as much of the backbone as the descriptor needs; a layer it does not have is a ``BadModel``."""
    table: Table = BACKBONES[spec.backbone].table(spec.width)
    try:
        return truncated(table, [parse_source(s).layer for s in spec.layer_sources])
    except ValueError as error:
        raise BadModel(f"{spec.backbone}: {error}") from error


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
    _check(model)
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} already holds a model; save another version beside it")
    names = tuple(c.name for c in model.spec.components)
    thresholds = threshold_arrays(names, model.thresholds, model.short_positions)
    with new_folder(folder) as draft:
        np.savez(draft / THRESHOLDS_FILE, allow_pickle=False, **thresholds)
        np.savez(draft / PARAMETERS_FILE, allow_pickle=False, **model.parameters)
        (draft / CARD_FILE).write_text(model.card, encoding="utf-8")
        (draft / SPEC_FILE).write_text(model.spec.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> Model:
    """Read a model folder.

    Raises
    ------
    BadModel
        A file is missing or damaged, or the files do not belong together; the message says which.
    """
    folder = Path(folder)
    spec = ModelSpec.load(folder)
    stored = _arrays(folder / THRESHOLDS_FILE)
    parameters = _arrays(folder / PARAMETERS_FILE)
    try:
        card = (folder / CARD_FILE).read_text(encoding="utf-8")
        short_positions = stored["short_positions"]
        thresholds = tuple(Thresholds(stored[f"{c.name}/columns"], stored[f"{c.name}/values"]) for c in spec.components)
    except OSError as error:
        raise BadModel(f"{folder / CARD_FILE} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise BadModel(f"{folder / THRESHOLDS_FILE} lacks the array {error}") from error
    except ValueError as error:
        raise BadModel(f"{folder / THRESHOLDS_FILE}: {error}") from error
    model = Model(spec, thresholds, short_positions, parameters, card)
    _check(model)
    return model


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except OSError as error:
        raise BadModel(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise BadModel(f"{path} is damaged or no .npz file: {error}") from error


def _check(model: Model) -> None:
    spec = model.spec
    table = network_table(spec)
    per_layer = channels(table)
    for component, part in zip(spec.components, model.thresholds, strict=True):
        _expect(f"{component.name}/columns", part.columns, (component.bits,), np.int32)
        _expect(f"{component.name}/values", part.values, (component.bits,), np.float32)
        source = parse_source(component.source)
        is_colour = component.source == COLOUR_SOURCE
        width = colour.FEATURES if is_colour else source.rows * source.columns * per_layer[source.layer]
        _expect_range(f"{component.name}/columns", part.columns, width)
    _expect("short_positions", model.short_positions, (spec.short_bits,), np.int32)
    _expect_range("short_positions", model.short_positions, spec.long_bits)
    expected = parameter_shapes(table)
    if differ := sorted(set(expected) ^ set(model.parameters)):
        word = "lack" if differ[0] in expected else "should not have"
        raise BadModel(f"the network's parameters {word} {differ[0]} (and {len(differ) - 1} more)")
    for name, shape in expected.items():
        _expect(name, model.parameters[name], shape, np.float32)
    names = tuple(c.name for c in spec.components)
    arrays = threshold_arrays(names, model.thresholds, model.short_positions)
    if arrays_sha256(arrays, model.parameters) != spec.arrays_sha256:
        raise BadModel("the arrays are not those that the spec was written for (their SHA-256 differs)")


def _expect(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: type) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise BadModel(f"{name} is {array.dtype} of shape {array.shape}, expected {np.dtype(dtype)} of {shape}")


def _expect_range(name: str, positions: NDArray[np.int32], end: int) -> None:
    if positions.min() < 0 or positions.max() >= end:
        raise BadModel(f"{name} points outside 0..{end - 1}")
