"""Short codes follow the long distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.training.unsupervised.short_codes import choose_short_positions


def test_choose_short_positions_follow_the_long_distance_better_than_chance() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(600, 12))
    bits = hidden @ rng.normal(size=(12, 512)) + rng.normal(size=(600, 512)) > 0
    weights = np.repeat([100, 0], 256)
    fitted, held_out = bits[:400], bits[400:]

    def correlation(positions: NDArray[np.integer]) -> float:
        left, right = np.triu_indices(200, 1)
        differ = held_out[left] != held_out[right]
        return float(np.corrcoef(differ[:, positions].sum(axis=1), differ @ weights)[0, 1])

    chosen = choose_short_positions(fitted, weights, 64, seed=0)
    assert len(set(chosen.tolist())) == 64
    assert (np.diff(chosen) > 0).all()
    at_random = [correlation(rng.permutation(512)[:64]) for _ in range(20)]
    assert correlation(chosen) > max(at_random)


def test_choose_short_positions_of_one_seed_are_the_same() -> None:
    bits = np.random.default_rng(0).random((50, 128)) > 0.5
    weights = np.full(128, 100)
    one, again = (choose_short_positions(bits, weights, 64, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, again)
