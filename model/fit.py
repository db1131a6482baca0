"""A model without training: seeded random convolutions plus colour, fitted to a sample of a catalogue.

Random filters keep much of what a picture looks like; what is fitted is their normalisation and the thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike.model import colour, runtime
from lookalike.model.descriptor import BoolBits, Features, Thresholds, binarise
from lookalike.model.folder import BACKBONES, Model, arrays_sha256, threshold_arrays
from lookalike.model.layers import truncated
from lookalike.model.spec import COLOUR_SOURCE, ComponentSpec, ModelSpec, parse_source

DEFAULT_COMPONENTS = (
    ComponentSpec(name="conv8", source="conv8@2x2", bits=512, weight=100),
    ComponentSpec(name="conv13", source="conv13@2x2", bits=1024, weight=100),
    ComponentSpec(name="colour", source="colour", bits=192, weight=200),
)
CALIBRATION_PICTURES = 256
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
    short_positions = choose_short(bits, short_bits)
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


def _random_network(
    pixels: NDArray[np.uint8], backbone: str, width: float, sources: Sequence[str], seed: int
) -> tuple[dict[str, NDArray[np.float32]], list[Features]]:
    backend = runtime.start(1)
    import keras

    from lookalike.model import network

    table = truncated(BACKBONES[backbone].table(width), [parse_source(s).layer for s in sources])
    keras.utils.set_random_seed(seed)
    extractor = network.extractor(table, pixels.shape[1], sources)
    chosen = np.random.default_rng(seed).permutation(len(pixels))[:CALIBRATION_PICTURES]
    network.calibrate(extractor, pixels[np.sort(chosen)])
    run = runtime.compiled(extractor, backend)
    chunks = [run(pixels[i : i + CHUNK]) for i in range(0, len(pixels), CHUNK)]
    return network.get_parameters(extractor), [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def _thresholds(component: ComponentSpec, features: Features, rng: np.random.Generator) -> Thresholds:
    if component.source == COLOUR_SOURCE:
        return colour.thermometer(component.bits)
    if component.bits > features.shape[1]:
        raise ValueError(f"{component.source} has {features.shape[1]} features, not {component.bits}")
    columns = np.sort(rng.permutation(features.shape[1])[: component.bits]).astype(np.int32)
    return Thresholds(columns, np.median(features[:, columns], axis=0).astype(np.float32))


def choose_short(bits: BoolBits, count: int) -> NDArray[np.int32]:
    """Choose the bits of the short code: greedily, the bit least correlated with those chosen already.

    Parameters
    ----------
    bits : ndarray of bool, shape (n, long_bits)
    count : int

    Returns
    -------
    ndarray of int32, shape (count,)
    """
    centred = bits - bits.mean(axis=0)
    centred /= np.maximum(np.sqrt((centred**2).sum(axis=0)), 1e-9)
    imbalance = np.abs(bits.mean(axis=0) - 0.5)
    chosen = [int(np.argmin(imbalance))]
    worst = np.abs(centred.T @ centred[:, chosen[0]])
    while len(chosen) < count:
        cost = worst + imbalance
        cost[chosen] = np.inf
        chosen.append(int(np.argmin(cost)))
        worst = np.maximum(worst, np.abs(centred.T @ centred[:, chosen[-1]]))
    return np.sort(np.array(chosen, np.int32))


def _card(spec: ModelSpec, pictures: int, seed: int) -> str:
    parts = "\n".join(f"| {c.name} | {c.source} | {c.bits} | {c.weight} |" for c in spec.components)
    return f"""# {spec.name} {spec.version}

Untrained convolutions plus colour, fitted on {pictures} photos of this catalogue. Nothing was trained.
The filters of {spec.backbone} (width {spec.width:g}, input {spec.input_px} px) are random, from seed {seed}.

Short code: {spec.short_bits} bits, chosen from the long code of {spec.long_bits} bits:

| component | source | bits | weight |
|---|---|---|---|
{parts}
"""
