"""A few codes and a query of their widths, to be answered, or spoilt one field at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from lookalike.kernels.values import Codes, KernelQuery


def make_codes(n: int = 10, words: int = 4, parts: tuple[int, ...] = (2, 3)) -> Codes:
    """``n`` random rows; short codes of ``words``, long codes of the components ``parts``."""
    rng = np.random.default_rng(n)
    return Codes(
        rng.integers(0, 2**64, (n, words), np.uint64),
        rng.integers(0, 2**64, (n, sum(parts)), np.uint64),
        np.arange(n, dtype=np.uint64),
        parts,
    )


def make_query(**changes: Any) -> KernelQuery:
    """A query that fits ``make_codes()``, but for the fields given."""
    fields: dict[str, Any] = {
        "short": np.zeros(4, np.uint64),
        "long": np.zeros(5, np.uint64),
        "count": 3,
        "candidates": 5,
        "weights": (1, 2),
    }
    return KernelQuery(**(fields | changes))
