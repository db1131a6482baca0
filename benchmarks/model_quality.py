"""How good answers are by labels, and how much of them a short code keeps. See model.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]
Distances = NDArray[np.float32]

FIRST = 20
SHARES = (0.02, 0.05, 0.1, 0.2)
DRAWS = 5  # of random bits


class Judge:
    """The labels of n photos, and which pairs are of one group and so never an answer to each other."""

    def __init__(self, rows: Sequence[dict[str, str]]) -> None:
        kind = np.array(["/".join(row[f"level{level}"] for level in (1, 2, 3)) for row in rows])
        colour = np.array([row.get("colour", "") for row in rows])
        group = np.array([row["group_id"] for row in rows])
        self._same_group = group[:, None] == group
        self._same = {"kind": kind[:, None] == kind}
        if (colour != "").all():
            self._same["colour"] = colour[:, None] == colour
            self._same["both"] = self._same["kind"] & self._same["colour"]

    def ranked(self, distances: NDArray[Any]) -> NDArray[np.int64]:
        """The other groups' photos first, nearest first, equal ones by row as the search does; own group last."""
        return np.argsort(np.where(self._same_group, np.inf, distances), axis=1, kind="stable")

    def line(self, name: str, bits: int, distances: Distances) -> dict[str, Any]:
        first = self.ranked(distances)[:, :5]
        line: dict[str, Any] = {"descriptor": name, "bits": bits}
        for label, same in self._same.items():
            right = np.take_along_axis(same, first, axis=1)
            line |= {f"{label} P@1": share(right[:, 0]), f"{label} P@5": share(right)}
        return line

    def chance(self) -> dict[str, Any]:
        others = ~self._same_group
        return {"descriptor": "chance", **{f"{label} P@1": share(same[others]) for label, same in self._same.items()}}


def weighted_distances(bits: Bits, parts: Sequence[int], weights: Sequence[int]) -> Distances:
    """The sum of each part's Hamming distance times its weight, between all pairs; exact, being below 2**24."""
    total = np.zeros((len(bits), len(bits)), np.float32)
    for part, weight in zip(np.split(bits, np.cumsum(parts)[:-1], axis=1), weights, strict=True):
        total += weight * packed_distances(part)
    return total


def packed_distances(bits: Bits) -> Distances:
    signs = np.where(bits, np.float32(1), np.float32(-1))
    distances: Distances = (bits.shape[1] - signs @ signs.T) / 2
    return distances


def short_recall(judge: Judge, bits: Bits, distances: Distances, chosen: NDArray[np.int32]) -> list[dict[str, Any]]:
    """The share of the true first 20 that are within the first rows by the short code."""
    true = judge.ranked(distances)[:, :FIRST]
    rng = np.random.default_rng(0)
    draws = [rng.permutation(bits.shape[1])[: len(chosen)] for _ in range(DRAWS)]
    found = {"random": [recall(judge, bits[:, draw], true) for draw in draws], "chosen": []}
    found["chosen"].append(recall(judge, bits[:, chosen], true))
    return [
        {"bits": name, **dict(zip((f"first {s:.0%}" for s in SHARES), map(share, np.array(r).T), strict=True))}
        for name, r in found.items()
    ]


def recall(judge: Judge, short: Bits, true: NDArray[np.int64]) -> list[float]:
    ranks = np.argsort(judge.ranked(packed_distances(short)), axis=1)
    reached = np.take_along_axis(ranks, true, axis=1)
    return [float((reached < int(s * len(short))).mean()) for s in SHARES]


def share(right: NDArray[Any]) -> float:
    return round(float(np.mean(right)), 3)
