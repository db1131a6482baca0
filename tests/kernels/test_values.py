"""Codes and queries that the kernels cannot read are refused when they are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.codes import make_codes, make_query

from lookalike.kernels.values import Codes

U8 = np.uint64


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"short": np.zeros((10, 4), np.int64)}, TypeError),
        ({"short": np.zeros((10, 4), ">u8")}, TypeError),
        ({"short": [[1, 2, 3, 4]] * 10}, TypeError),
        ({"short": np.zeros((9, 4), U8)}, ValueError),
        ({"short": np.zeros((10, 5), U8)}, ValueError),
        ({"short": np.zeros((10, 0), U8)}, ValueError),
        ({"short": np.zeros(40, U8)}, ValueError),
        ({"short": np.zeros((20, 4), U8)[::2]}, ValueError),
        ({"short": np.zeros((4, 10), U8).T}, ValueError),
        ({"short": np.zeros(10 * 32 + 1, np.uint8)[1:].view(U8).reshape(10, 4)}, ValueError),
        ({"long": np.zeros((10, 129), U8), "component_words": (129,)}, ValueError),
        ({"keys": np.zeros((10, 1), U8)}, ValueError),
        ({"keys": np.zeros(20, U8)[::2]}, ValueError),
        ({"component_words": (2, 2)}, ValueError),
        ({"component_words": (5, 0)}, ValueError),
        ({"component_words": (2.0, 3.0)}, TypeError),
    ],
)
def test_codes_refuse_what_the_kernels_cannot_read(changes: dict[str, Any], error: type[Exception]) -> None:
    right = make_codes()
    fields = {name: getattr(right, name) for name in ("short", "long", "keys", "component_words")}
    with pytest.raises(error):
        Codes(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"short": np.zeros(4, np.int32)}, TypeError),
        ({"short": np.zeros((1, 4), U8)}, ValueError),
        ({"short": np.zeros(5, U8)}, ValueError),
        ({"short": np.zeros(8, U8)[::2]}, ValueError),
        ({"long": np.zeros(0, U8)}, ValueError),
        ({"count": 0}, ValueError),
        ({"count": -1}, ValueError),
        ({"count": 1 << 63}, ValueError),
        ({"count": "ten"}, TypeError),
        ({"count": 2.5}, TypeError),
        ({"candidates": 0}, ValueError),
        ({"weights": (1, -1)}, ValueError),
        ({"weights": (1, 1001)}, ValueError),
        ({"weights": (1, 0.5)}, TypeError),
    ],
)
def test_query_refuses_what_the_kernels_cannot_read(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make_query(**changes)
