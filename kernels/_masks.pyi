from typing import Any

import numpy as np
from numpy.typing import NDArray

VARIANTS: dict[str, int]

def within(values: NDArray[Any], lower: float, upper: float, out: NDArray[np.uint64], variant: int) -> None: ...
def within_where(
    values: NDArray[Any], lower: float, upper: float, where: NDArray[np.uint64], out: NDArray[np.uint64]
) -> None: ...
def members(numbers: NDArray[Any], table: NDArray[np.uint8], out: NDArray[np.uint64], variant: int) -> None: ...
def near(
    lat: NDArray[np.int32],
    lon: NDArray[np.int32],
    latitudes: tuple[int, int],
    longitudes: tuple[tuple[int, int], tuple[int, int]],
    point_lat: float,
    point_lon: float,
    cos_lat: float,
    limit: float,
    margin: float,
    where: NDArray[np.uint64] | None,
    out: NDArray[np.uint64],
    unsure: NDArray[np.uint64],
    variant: int,
) -> None: ...
def mark_below(parents: NDArray[np.uint32], marks: NDArray[np.uint8]) -> None: ...
def hash_texts(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], out: NDArray[np.uint8]
) -> None: ...
