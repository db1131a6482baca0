"""A model without training: seeded random convolutions plus colour, fitted to a sample of a catalogue.

Random filters keep much of what a photo looks like; what is fitted is their normalisation and the thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lookalike.model.descriptor import Features, Pixels, Thresholds, binarise
from lookalike.model.features import colour
from lookalike.model.saved_model import Model, arrays_sha256, threshold_arrays
from lookalike.model.spec import COLOUR_SOURCE, Backbone, ComponentSpec, ModelSpec
from lookalike.training.unsupervised.random_network import random_network
from lookalike.training.unsupervised.short_codes import choose_short_positions
from lookalike.training.unsupervised.thresholds import choose_thresholds

DEFAULT_COMPONENTS = (
    ComponentSpec(name="conv5", source="conv5@8x8", bits=1024, weight=100),
    ComponentSpec(name="conv8", source="conv8@8x8", bits=640, weight=100),
    ComponentSpec(name="colour", source="colour", bits=384, weight=200),
)


def fit(
    pixels: Pixels,
    *,
    name: str,
    version: str = "1",
    backbone: Backbone = "darknet19",
    width: float = 0.5,
    components: Sequence[ComponentSpec] = DEFAULT_COMPONENTS,
    short_bits: int = 64,
    seed: int = 0,
) -> Model:
    """Fit a model to a sample of the photos that it will encode.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, side, side, 3)
        sRGB; a few hundred to a few thousand; n at least 2. ``side`` becomes the model's input size.
    name, version : str
    backbone : {"darknet19", "googlenet"}
    width : float
        Width multiplier.
    components : sequence of ComponentSpec
    short_bits : int
    seed : int
        Of the random filters and choices: one seed and sample, one model.

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        Too few photos, photos that are not square, or a source with fewer features than its bits.
    """
    if pixels.ndim != 4 or len(pixels) < 2 or pixels.shape[1] != pixels.shape[2]:
        raise ValueError(f"fit needs at least 2 square photos (n, side, side, 3), not {pixels.shape}")
    sources = [c.source for c in components if c.source != COLOUR_SOURCE]
    parameters, pools = random_network(pixels, backbone, width, sources, seed)
    layers = iter(pools)
    rng = np.random.default_rng(seed)
    features = [colour.features(pixels) if c.source == COLOUR_SOURCE else next(layers) for c in components]
    thresholds = tuple(_thresholds(c, f, rng) for c, f in zip(components, features, strict=True))
    bits = np.concatenate([binarise(f, t) for f, t in zip(features, thresholds, strict=True)], axis=1)
    per_bit = np.repeat([c.weight for c in components], [c.bits for c in components])
    short_positions = choose_short_positions(bits, per_bit, short_bits, seed)
    arrays = threshold_arrays(tuple(c.name for c in components), thresholds, short_positions)
    spec = ModelSpec(
        name=name,
        version=version,
        backbone=backbone,
        width=width,
        input_px=pixels.shape[1],
        short_bits=short_bits,
        components=tuple(components),
        arrays_sha256=arrays_sha256(arrays, parameters),
    )
    return Model(spec, thresholds, short_positions, parameters, _card(spec, len(pixels), seed))


def _thresholds(component: ComponentSpec, features: Features, rng: np.random.Generator) -> Thresholds:
    if component.source == COLOUR_SOURCE:
        return colour.thermometer(component.bits)
    try:
        return choose_thresholds(features, component.bits, rng)
    except ValueError as error:
        raise ValueError(f"{component.source}: {error}") from error


def _card(spec: ModelSpec, photos: int, seed: int) -> str:
    parts = "\n".join(f"| {c.name} | {c.source} | {c.bits} | {c.weight / 100:.2f} |" for c in spec.components)
    return f"""# {spec.name} {spec.version}

Untrained convolutions plus colour, fitted on {photos:,} photos of this catalogue. Nothing was trained.

## What it is

The filters of {spec.backbone} (width {spec.width:g}, input {spec.input_px} x {spec.input_px} px) are random, drawn from
seed {seed}. Fitted to the photos are only the batch normalisations, the thresholds of the bits (each layer's at the
median) and the choice of the short code. So it finds what has the same outline, layout and colours. It knows nothing
of garments, people or backgrounds: expect it to serve photos taken alike (a studio's), and to fail across poses,
crops and cluttered rooms.

The long code has {spec.long_bits:,} bits; the short code is {spec.short_bits} of them. A weight of 1.00 counts each
differing bit once.

| component | source | bits | weight |
|---|---|---|---|
{parts}

## What is promised

On one CPU, with one version of the libraries: a photo's codes are the same bits whatever the batch that it is encoded
in, and in every process. Between different CPUs or libraries it is not promised, nor on a GPU: a sum of floats in
another order may turn a bit whose feature lies next to its threshold.

How good the answers are on this catalogue was not measured.
"""
