"""Where thresholds lie, on features drawn from a seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lookalike.model.descriptor import Features, binarise
from lookalike.training.unsupervised.thresholds import choose_thresholds, near_medians


def test_near_medians_keep_off_values_that_many_photos_share() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3)).astype(np.float32)
    features[:250, 1] = 0.25  # an atom that holds the median
    features[:, 2] = 1.0  # nothing to split
    values, imbalance = near_medians(features)
    nearest = np.abs(features - values).min(axis=0)
    assert (nearest[:2] > 1e-4).all()
    assert imbalance[0] < 0.02
    assert 0.1 < imbalance[1] < 0.35
    assert np.isfinite(values).all()


@given(hnp.arrays(np.float32, (9, 4), elements=st.integers(0, 8).map(np.float32)))
def test_near_medians_split_as_evenly_as_any_gap_does(features: Features) -> None:
    values, imbalance = near_medians(features)
    for column in range(4):
        distinct = np.unique(features[:, column])
        if len(distinct) == 1:
            continue
        shares = [float((features[:, column] > low).mean()) for low in distinct[:-1]]
        best = min(abs(share - 0.5) for share in shares)
        assert imbalance[column] == pytest.approx(best)
        assert abs((features[:, column] > values[column]).mean() - 0.5) == pytest.approx(best)


def test_choose_thresholds_takes_features_that_split_the_sample_first() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 12)).astype(np.float32)
    features[:, ::3] = rng.random((200, 4)) > 0.95  # four features that 5 % of the sample have
    chosen = choose_thresholds(features, 8, np.random.default_rng(1))
    assert chosen.columns.tolist() == [1, 2, 4, 5, 7, 8, 10, 11]
    np.testing.assert_allclose(binarise(features, chosen).mean(axis=0), 0.5, atol=0.02)


def test_choose_thresholds_refuses_more_bits_than_features() -> None:
    with pytest.raises(ValueError, match="there are 3 features, not 4"):
        choose_thresholds(np.zeros((2, 3), np.float32), 4, np.random.default_rng(0))
