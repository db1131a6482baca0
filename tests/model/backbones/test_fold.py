"""Folded networks compute what they did."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the cpu or gpu extra")

from support.networks import PHOTOS, lively_parameters, outputs

from lookalike.model import keras_runtime
from lookalike.model.backbones import darknet19, googlenet
from lookalike.model.backbones.fold import fold
from lookalike.model.backbones.layers import channels, parameter_shapes, truncated

keras_runtime.start(1)


@pytest.mark.parametrize(("backbone", "layer"), [(darknet19, "conv18"), (googlenet, "inception_5b")])
def test_fold_changes_nothing_but_rounding(backbone: ModuleType, layer: str) -> None:
    table = truncated(backbone.table(0.25), [layer])
    parameters = lively_parameters(table)
    plain, folded = fold(table, parameters)
    assert {k: v.shape for k, v in folded.items()} == parameter_shapes(plain)
    assert not any("_bn/" in name for name in folded)
    (before,) = outputs(table, parameters, 64, [layer], PHOTOS)
    (after,) = outputs(plain, folded, 64, [layer], PHOTOS)
    assert before.shape == (2, channels(table)[layer])
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())
