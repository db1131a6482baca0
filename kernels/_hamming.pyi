from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels.values import KernelQuery

VARIANTS: dict[str, int]

def population(rows: NDArray[np.uint64], variant: int) -> int: ...
def search(
    kind: Literal["two_phase", "candidates", "exhaustive"],
    queries: tuple[KernelQuery, ...],
    shorts: NDArray[np.uint64],
    longs: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    component_words: tuple[int, ...],
    allowed: NDArray[np.uint64] | None,
    threads: int,
    variant: int,
) -> list[tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint32], NDArray[np.int64]]]: ...
