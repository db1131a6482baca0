"""A model without training: seeded random convolutions plus colour, fitted to a sample of a catalogue.

Random filters keep much of what a picture looks like; what is fitted is their normalisation and the thresholds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike.model import colour, runtime, short_code
from lookalike.model.descriptor import Features, Thresholds, binarise
from lookalike.model.folder import BACKBONES, Model, arrays_sha256, threshold_arrays
from lookalike.model.layers import Table, parameter_shapes, truncated
from lookalike.model.spec import COLOUR_SOURCE, ComponentSpec, ModelSpec, parse_source

DEFAULT_COMPONENTS = (
    ComponentSpec(name="conv5", source="conv5@8x8", bits=1024, weight=100),
    ComponentSpec(name="conv8", source="conv8@8x8", bits=640, weight=100),
    ComponentSpec(name="colour", source="colour", bits=384, weight=200),
)
CALIBRATION_PICTURES = 128
FAIR = 0.2
"""Imbalance of a feature that splits the sample 30 to 70; those no worse are taken first."""
SMALLEST_GAP = 1e-3
"""Between the two values beside a threshold, in standard deviations; roundings differ by about 1e-5."""
CHUNK = 64


def fit(
    pixels: NDArray[np.uint8],
    *,
    name: str,
    version: str = "1",
    backbone: str = "darknet19",
    width: float = 0.5,
    components: Sequence[ComponentSpec] = DEFAULT_COMPONENTS,
    short_bits: int = 64,
    seed: int = 0,
) -> Model:
    """Fit a model to a sample of the pictures that it will encode.

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
        Too few pictures, pictures that are not square, or a source with fewer features than its bits.
    """
    if pixels.ndim != 4 or len(pixels) < 2 or pixels.shape[1] != pixels.shape[2]:
        raise ValueError(f"fit needs at least 2 square pictures (n, side, side, 3), not {pixels.shape}")
    sources = [c.source for c in components if c.source != COLOUR_SOURCE]
    parameters, pools = _random_network(pixels, backbone, width, sources, seed)
    layers = iter(pools)
    rng = np.random.default_rng(seed)
    features = [colour.features(pixels) if c.source == COLOUR_SOURCE else next(layers) for c in components]
    thresholds = tuple(_thresholds(c, f, rng) for c, f in zip(components, features, strict=True))
    bits = np.concatenate([binarise(f, t) for f, t in zip(features, thresholds, strict=True)], axis=1)
    per_bit = np.repeat([c.weight for c in components], [c.bits for c in components])
    short_positions = short_code.choose(bits, per_bit, short_bits, seed)
    arrays = threshold_arrays(tuple(c.name for c in components), thresholds, short_positions)
    spec = ModelSpec(
        name=name,
        version=version,
        backbone=backbone,  # type: ignore[arg-type]  # pydantic checks the value
        width=width,
        input_px=pixels.shape[1],
        short_bits=short_bits,
        components=tuple(components),
        arrays_sha256=arrays_sha256(arrays, parameters),
    )
    return Model(spec, thresholds, short_positions, parameters, _card(spec, len(pixels), seed))


def random_parameters(table: Table, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw an untrained network: He-normal kernels, identity batch normalisations, no biases.

    Drawn by NumPy, so one seed gives the same filters under every Keras backend.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, NDArray[np.float32]] = {}
    for name, shape in parameter_shapes(table).items():
        array = name.rpartition("/")[2]
        if array == "kernel":
            scale = np.sqrt(2 / np.prod(shape[:-1]))
            drawn[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
        else:
            drawn[name] = np.full(shape, array in ("gamma", "moving_variance"), np.float32)
    return drawn


def _random_network(
    pixels: NDArray[np.uint8], backbone: str, width: float, sources: Sequence[str], seed: int
) -> tuple[dict[str, NDArray[np.float32]], list[Features]]:
    """Make the network's parameters, calibrated on the pictures, and the pools of the pictures, one per source."""
    if not sources:
        return {}, []
    backend = runtime.start(len(os.sched_getaffinity(0)))
    from lookalike.model import network

    side = pixels.shape[1]
    table = truncated(BACKBONES[backbone].table(width), [parse_source(s).layer for s in sources])
    chosen = np.random.default_rng(seed).permutation(len(pixels))[:CALIBRATION_PICTURES]
    extractor = network.extractor(table, side, sources)
    network.set_parameters(extractor, random_parameters(table, seed))
    network.calibrate(extractor, pixels[np.sort(chosen)])
    parameters = network.get_parameters(extractor)
    run = network.pools(table, side, sources, parameters, backend)
    chunks = [run(pixels[i : i + CHUNK]) for i in range(0, len(pixels), CHUNK)]
    return parameters, [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def _thresholds(component: ComponentSpec, features: Features, rng: np.random.Generator) -> Thresholds:
    if component.source == COLOUR_SOURCE:
        return colour.thermometer(component.bits)
    if component.bits > features.shape[1]:
        raise ValueError(f"{component.source} has {features.shape[1]} features, not {component.bits}")
    values, imbalance = near_medians(features)
    shuffled = rng.permutation(features.shape[1])
    fair_first = shuffled[np.argsort(imbalance[shuffled] > FAIR, kind="stable")]
    columns = np.sort(fair_first[: component.bits]).astype(np.int32)
    return Thresholds(columns, values[columns])


def near_medians(features: Features) -> tuple[Features, Features]:
    """Find for each feature the threshold nearest its median that no picture of the sample lies on.

    A studio's white corner gives many photos one and the same value, which is then the median: with the threshold
    on it, another rounding of the last digit would turn the bit of all those photos. So a threshold lies in the
    middle of a gap. (Of 3,072,000 bits, oneDNN's AVX2 kernels in place of AVX-512 turned 95,970; now 7.)

    Parameters
    ----------
    features : ndarray of float32, shape (n, f), n at least 2

    Returns
    -------
    values : ndarray of float32, shape (f,)
    imbalance : ndarray of float32, shape (f,)
        How far the share of the sample above the threshold is from one half, 0..0.5.
    """
    ordered = np.sort(features, axis=0)
    gaps = np.diff(ordered, axis=0)
    above = 1 - np.arange(1, len(ordered), dtype=np.float32)[:, None] / len(ordered)
    imbalance = np.abs(above - 0.5)
    wide = gaps > SMALLEST_GAP * features.std(axis=0)
    best = np.argmin(np.where(wide, imbalance, imbalance + 1), axis=0)[None]
    low, high = (np.take_along_axis(ordered, best + side, axis=0)[0] for side in (0, 1))
    return ((low + high) / 2).astype(np.float32), np.take_along_axis(imbalance, best, axis=0)[0]


def _card(spec: ModelSpec, pictures: int, seed: int) -> str:
    parts = "\n".join(f"| {c.name} | {c.source} | {c.bits} | {c.weight} |" for c in spec.components)
    return f"""# {spec.name} {spec.version}

Untrained convolutions plus colour, fitted on {pictures:,} photos of this catalogue. Nothing was trained.

## What it is

The filters of {spec.backbone} (width {spec.width:g}, input {spec.input_px} x {spec.input_px} px) are random, drawn from
seed {seed}. Fitted to the photos are only the batch normalisations, the thresholds of the bits (each layer's at the
median) and the choice of the short code. So it finds what has the same outline, layout and colours. It knows nothing
of garments, people or backgrounds: expect it to serve photos taken alike (a studio's), and to fail across poses,
crops and cluttered rooms.

The long code has {spec.long_bits:,} bits; the short code is {spec.short_bits} of them.

| component | source | bits | weight |
|---|---|---|---|
{parts}

## What is promised

On one CPU, with one version of the libraries: a photo's codes are the same bits whatever the batch that it is encoded
in, and in every process. Between different CPUs or libraries it is not promised, nor on a GPU (not measured there): a
sum of floats in another order may turn a bit whose feature lies next to its threshold. Measured with the project's
default model on 1,500 photos, 3,072,000 bits: 0 differ over batches and processes, 1 with oneDNN switched off,
7 with oneDNN's AVX2 kernels in place of AVX-512.

## Not measured here

How good the answers are on this catalogue. `docs/model.md` of the project has figures for one.
"""
