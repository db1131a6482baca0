from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels.places import Box

VARIANTS: dict[str, int]

def within(values: NDArray[Any], lower: float, upper: float, out: NDArray[np.uint64], variant: int) -> None: ...
def members(
    numbers: NDArray[Any],
    table: NDArray[np.uint8],
    wanted: NDArray[np.uint32] | None,
    out: NDArray[np.uint64],
    variant: int,
) -> None: ...
def near(
    lat: NDArray[np.int32],
    lon: NDArray[np.int32],
    outer: Box,
    inner: Box,
    point: tuple[float, float, float],
    limits: tuple[float, float],
    out: NDArray[np.uint64],
    unsure: NDArray[np.uint64],
    variant: int,
) -> None: ...
def mark_below(parents: NDArray[np.uint32], marks: NDArray[np.uint8]) -> None: ...
def hash_texts(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], out: NDArray[np.uint16]
) -> None: ...
def second_ids_where(
    words: NDArray[np.uint32],
    offsets: NDArray[np.uint32],
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    where: NDArray[np.uint64],
    out: NDArray[np.uint64],
) -> None: ...
