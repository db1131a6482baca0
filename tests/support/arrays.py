"""Arrays and numbers as a careless caller might pass them: to be answered or refused, never to crash."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

DTYPES = st.sampled_from(["<u8", ">u8", "<i8", "u4", "u1", "f8", "bool", "O", "S8", "M8[s]"])
LAYOUTS = [
    "as is",
    "every other",
    "reversed",
    "transposed",
    "broadcast",
    "Fortran order",
    "unaligned",
    "list",
    "read-only",
]
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 8, 9, 64, 65, 129]), min_size=0, max_size=3).map(tuple)


def laid_out(array: Any, layout: str) -> Any:
    match layout:
        case "every other":
            return array[::2] if array.ndim else array
        case "reversed":
            return np.flip(array)
        case "transposed":
            return array.T
        case "broadcast":
            return np.broadcast_to(array[..., :1], array.shape) if array.ndim and array.shape[-1] else array
        case "Fortran order":
            return np.asfortranarray(array)
        case "unaligned" if not array.dtype.hasobject:
            raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
            return raw.view(array.dtype).reshape(array.shape)
        case "list":
            return array.tolist()
        case "read-only":
            array.flags.writeable = False
    return array


@st.composite
def odd_arrays(draw: Any) -> Any:
    """Draw an array of any type, shape and memory layout, often one of nine rows of four uint64."""
    usual = draw(st.integers(0, 2))  # often nearly right, or nothing gets past the first check
    dtype = "<u8" if usual else draw(DTYPES)
    shape = (9, 4) if usual == 2 else draw(SHAPES)
    return laid_out(
        np.zeros(shape, dtype),
        draw(st.sampled_from(LAYOUTS)),
    )


ODD_NUMBERS = st.one_of(
    st.integers(-2, 12), st.sampled_from([10**9, 2**63 - 1, 2**63, 2**70, 1.5, "3", None, np.int64(2), True])
)
