"""Networks of parameters that matter, and what they put out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike.model.backbones.layers import Parameters, Table
from lookalike.training.unsupervised.random_network import random_parameters

PHOTOS = np.random.default_rng(0).random((2, 64, 64, 3)).astype(np.float32)
"""In 0..1."""


def lively_parameters(table: Table, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Draw parameters in which every array matters, batch-norm statistics too."""
    rng = np.random.default_rng(seed)
    drawn = random_parameters(table, seed)
    for name, array in drawn.items():
        if not name.endswith("/kernel"):
            drawn[name] = (array + rng.uniform(-0.3, 0.3, array.shape)).astype(np.float32)
    return drawn


def outputs(
    table: Table, parameters: Parameters, side_px: int, sources: Sequence[str], photos: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Compute the pools of photos, one array per source."""
    from lookalike.model.backbones import build

    model = build.extractor(table, side_px, sources)
    build.set_parameters(model, parameters)
    found = model(photos, training=False)
    return [np.asarray(y) for y in (found if isinstance(found, list) else [found])]
