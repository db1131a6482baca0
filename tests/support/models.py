"""Photos drawn from a seed, and a small model of random arrays that no photo was needed for."""

from __future__ import annotations

from typing import Any

import numpy as np

from lookalike.model.backbones import darknet19
from lookalike.model.backbones.layers import truncated
from lookalike.model.descriptor import Pixels, Thresholds
from lookalike.model.features import colour
from lookalike.model.saved_model import Model, arrays_sha256, threshold_arrays
from lookalike.model.spec import ComponentSpec, ModelSpec
from lookalike.training.unsupervised.random_network import random_parameters

OUTLINE = ComponentSpec(name="outline", source="conv2@2x2", bits=64, weight=100)
COLOUR = ComponentSpec(name="colour", source="colour", bits=192, weight=250)


def boxes(count: int, seed: int = 0, side_px: int = 32) -> Pixels:
    """Draw photos of coloured boxes on coloured grounds, with a little noise."""
    rng = np.random.default_rng(seed)
    out = np.empty((count, side_px, side_px, 3), np.int64)
    for photo in out:
        photo[:] = rng.integers(0, 256, 3)
        (top, bottom), (left, right) = np.sort(rng.integers(0, side_px, (2, 2)), axis=1)
        photo[top : bottom + 1, left : right + 1] = rng.integers(0, 256, 3)
    return (out + rng.integers(-8, 9, out.shape)).clip(0, 255).astype(np.uint8)


def tiny_model(seed: int = 0, **changes: Any) -> Model:
    """Make a model of 64 bits of a network's second layer and 192 of colour; ``changes`` go into its spec."""
    rng = np.random.default_rng(seed)
    parameters = random_parameters(truncated(darknet19.table(0.25), ["conv2"]), seed)
    outline = Thresholds(rng.integers(0, 64, 64).astype(np.int32), rng.random(64, np.float32))
    thresholds = (outline, colour.thermometer(192))
    short_positions = np.arange(64, dtype=np.int32)
    arrays = threshold_arrays(("outline", "colour"), thresholds, short_positions)
    fields: dict[str, Any] = {
        "name": "tiny",
        "version": "1",
        "backbone": "darknet19",
        "width": 0.25,
        "input_px": 32,
        "short_bits": 64,
        "components": (OUTLINE, COLOUR),
        "arrays_sha256": arrays_sha256(arrays, parameters),
    }
    return Model(ModelSpec(**fields | changes), thresholds, short_positions, parameters, "# tiny\n")
