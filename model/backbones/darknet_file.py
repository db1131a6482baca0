"""Darknet ``.weights`` files to arrays and back.

The layout, little-endian: int32 major, minor, revision; ``seen``, the photos trained on, as int64 from version 0.2
on and int32 before; then float32 only. For each convolution in order: biases; with batch normalisation also scales,
means and variances; then the kernel as out, in, height, width. With batch normalisation the biases are its offsets.
Source: ``load_convolutional_weights`` and ``load_weights_upto`` in Darknet's src/parser.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import BadModel
from lookalike.model.backbones.layers import Conv, Parameters, Table, parameter_shapes
from lookalike.model.files import opened
from lookalike.storage.local import write_atomically

_FLOAT = np.dtype("<f4")
_VERSION = np.dtype("<i4")
_LONG_SEEN_FROM = 2  # of major * 10 + minor
_MAX_HEADER_BYTES = 20
_BATCH_NORM_ORDER = ("beta", "gamma", "moving_mean", "moving_variance")
_HWIO_TO_OIHW = (3, 2, 0, 1)
_OIHW_TO_HWIO = (2, 3, 1, 0)


class Header(NamedTuple):
    """The first bytes of a file. ``seen`` counts photos."""

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0


def float_count(table: Table) -> int:
    """Count the floats of a network's file, without its header: 20,856,776 for Darknet-19 with 1,000 classes."""
    return sum(int(np.prod(shape)) for shape in parameter_shapes(table).values())


def read(path: Path, table: Table) -> tuple[Header, dict[str, NDArray[np.float32]]]:
    """Read a file as the parameters of a network.

    Parameters
    ----------
    path : Path
    table : Table
        The network that the file must fit exactly, classifier included.

    Returns
    -------
    header : Header
    parameters : dict of str to ndarray of float32
        As ``layers.parameter_shapes`` names and shapes them; kernels are height, width, in, out.

    Raises
    ------
    BadModel
        The file cannot be read, or holds more or fewer floats than the network has.
    """
    with opened(path) as (file, size_bytes):
        header, start = _parse_header(path, file.read(_MAX_HEADER_BYTES))
        size_bytes -= start
        expected = float_count(table)
        if size_bytes != expected * _FLOAT.itemsize:
            rest = size_bytes % _FLOAT.itemsize
            found = f"{size_bytes // _FLOAT.itemsize:,} floats" + (f" and {rest} bytes" if rest else "")
            raise BadModel(f"{path} holds {found}, but the network has {expected:,}: another network or classes?")
        file.seek(start)
        content = file.read(size_bytes)
    if len(content) != size_bytes:
        raise BadModel(f"{path} became shorter while it was read")
    values = np.frombuffer(content, _FLOAT)
    parameters: dict[str, NDArray[np.float32]] = {}
    for name, shape in _stored(table):
        count = int(np.prod(shape))
        part, values = values[:count].astype(np.float32).reshape(shape), values[count:]
        parameters[name] = np.ascontiguousarray(part.transpose(_OIHW_TO_HWIO)) if part.ndim == 4 else part
    return header, parameters


def write(path: Path, table: Table, parameters: Parameters, header: Header | None = None) -> None:
    """Write a network's parameters as a file that ``read`` gives back, and that Darknet reads.

    Readers see the old file or the whole new one, never a part.

    Raises
    ------
    BadModel
        A parameter is missing or has another shape than the table says.
    """
    header = header or Header()
    shapes = parameter_shapes(table)
    for name, shape in shapes.items():
        if name not in parameters or parameters[name].shape != shape:
            found = parameters[name].shape if name in parameters else "missing"
            raise BadModel(f"{name} is {found}, but the network has {shape}")
    parts = [np.array(header[:3], _VERSION), np.array(header.seen, _seen_type(header.major, header.minor))]
    for name, _ in _stored(table):
        array = parameters[name]
        parts.append(np.asarray(array.transpose(_HWIO_TO_OIHW) if array.ndim == 4 else array, _FLOAT))
    write_atomically(path, b"".join(part.tobytes() for part in parts))


def _parse_header(path: Path, content: bytes) -> tuple[Header, int]:
    """Return the header and the offset of the first float."""
    try:
        major, minor, revision = (int(v) for v in np.frombuffer(content, _VERSION, 3))
        seen = _seen_type(major, minor)
        start = 3 * _VERSION.itemsize
        return Header(major, minor, revision, int(np.frombuffer(content, seen, 1, start)[0])), start + seen.itemsize
    except ValueError as error:
        raise BadModel(f"{path} is too short for the header of a Darknet file: {len(content)} bytes") from error


def _seen_type(major: int, minor: int) -> np.dtype[np.int64] | np.dtype[np.int32]:
    return np.dtype("<i8") if major * 10 + minor >= _LONG_SEEN_FROM else np.dtype("<i4")


def _stored(table: Table) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name the arrays in the order of the file, with their shapes there."""
    shapes = parameter_shapes(table)
    for layer in table:
        if isinstance(layer, Conv):
            if layer.batch_norm:
                names = [f"{layer.name}_bn/{array}" for array in _BATCH_NORM_ORDER]
            else:
                names = [f"{layer.name}/bias"]
            for name in names:
                yield name, shapes[name]
            height, width, inputs, outputs = shapes[f"{layer.name}/kernel"]
            yield f"{layer.name}/kernel", (outputs, inputs, height, width)
