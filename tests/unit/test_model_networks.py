"""The networks that Keras builds of the tables, against NumPy and the published counts."""

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the cpu or gpu extra")

from lookalike.model import darknet19, googlenet, runtime
from lookalike.model.fit import random_parameters
from lookalike.model.folding import fold
from lookalike.model.layers import Conv, LocalResponseNorm, channels, parameter_shapes, scaled, truncated

runtime.start(1)
network = pytest.importorskip("lookalike.model.network")
RNG = np.random.default_rng(0)
PICTURES = RNG.random((2, 64, 64, 3)).astype(np.float32)


def lively(table, seed=0):
    """Parameters in which every array matters, batch-norm statistics too."""
    rng = np.random.default_rng(seed)
    drawn = random_parameters(table, seed)
    for name, array in drawn.items():
        if not name.endswith("/kernel"):
            drawn[name] = (array + rng.uniform(-0.3, 0.3, array.shape)).astype(np.float32)
    return drawn


def outputs(table, parameters, side, sources, pictures):
    model = network.extractor(table, side, sources)
    network.set_parameters(model, parameters)
    found = model(pictures, training=False)
    return [np.asarray(y) for y in (found if isinstance(found, list) else [found])]


@pytest.mark.parametrize(
    ("backbone", "classes", "count"),
    [(darknet19, 1000, 20_856_776), (googlenet, 1000, 6_998_552), (googlenet, 230, 6_209_302)],
)
def test_the_networks_have_the_published_parameters(backbone, classes, count):
    table = backbone.table(1, classes)
    model = network.classifier(table, 224)
    assert model.count_params() == count
    assert model.output_shape == (None, classes)
    assert {k: v.shape for k, v in network.get_parameters(model).items()} == parameter_shapes(table)


@pytest.mark.parametrize(
    ("backbone", "layer", "shape"),
    [
        (darknet19, "conv8", (28, 28, 256)),
        (darknet19, "conv13", (14, 14, 512)),
        (darknet19, "conv18", (7, 7, 1024)),
        (googlenet, "norm2", (56, 56, 192)),
        (googlenet, "inception_3b", (28, 28, 480)),
        (googlenet, "inception_4e", (14, 14, 832)),
        (googlenet, "inception_5b", (7, 7, 1024)),
    ],
)
def test_planes_have_the_published_shapes(backbone, layer, shape):
    model = network.classifier(backbone.table(), 224)
    names = {plain.name: plain for plain in model.layers}
    found = names.get(f"{layer}_leaky", names.get(layer))
    if found is None:  # a local response norm is several operations; its pool follows it
        assert names["pool2"].input.shape[1:] == shape
    else:
        assert found.output.shape[1:] == shape


def test_names_of_layers():
    assert [r.name for r in darknet19.table(1, 10) if isinstance(r, Conv)] == [f"conv{i}" for i in range(1, 20)]
    inceptions = [r.name for r in googlenet.table() if r.name.startswith("inception")]
    assert inceptions == [f"inception_{n}" for n in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]


def test_an_extractor_computes_no_deeper_than_it_is_asked():
    model = network.extractor(darknet19.table(0.25), 64, ["conv5@2x2", "conv3"])
    convolutions = {layer.name for layer in model.layers if layer.name in {r.name for r in darknet19.table()}}
    assert {"conv5"} <= convolutions
    assert "conv6" not in convolutions
    expected = parameter_shapes(truncated(darknet19.table(0.25), ["conv5"]))
    assert {k: v.shape for k, v in network.get_parameters(model).items()} == expected


def test_an_unknown_layer_is_refused():
    with pytest.raises(ValueError, match="conv77"):
        network.extractor(darknet19.table(0.25), 64, ["conv77"])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (4, 2), (3, 3), (5, 7)])
def test_a_grid_of_pools_is_the_mean_of_each_cell(rows, columns):
    table = (Conv("only", 8, 1, batch_norm=False, activation="linear"),)
    parameters = random_parameters(table, 0)
    plane = PICTURES @ parameters["only/kernel"][0, 0]
    (found,) = outputs(table, parameters, 64, [f"only@{rows}x{columns}"], PICTURES)
    cells = []
    for r in range(rows):
        for c in range(columns):
            top, bottom = 64 * r // rows, -(-64 * (r + 1) // rows)
            left, right = 64 * c // columns, -(-64 * (c + 1) // columns)
            cells.append(plane[:, top:bottom, left:right].mean(axis=(1, 2)))
    np.testing.assert_allclose(found, np.concatenate(cells, axis=1), rtol=1e-5, atol=1e-5)


def test_a_convolution_is_darknets():
    """3x3, zero padding, (x - mean) / sqrt(variance + 1e-5) * scale + bias, leaky 0.1; value by value."""
    table = (Conv("conv1", 8, 3),)
    p = lively(table)
    p["conv1_bn/moving_variance"] = np.full(8, 1e-5, np.float32)  # so that the epsilon is half of the root
    (found,) = outputs(table, p, 32, ["conv1"], PICTURES[:, :32, :32])
    padded = np.pad(PICTURES[:, :32, :32].astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = sum(
        padded[:, y : y + 32, x : x + 32] @ p["conv1/kernel"][y, x].astype(np.float64)
        for y in range(3)
        for x in range(3)
    )
    norm = (total - p["conv1_bn/moving_mean"]) / np.sqrt(p["conv1_bn/moving_variance"] + 1e-5)
    norm = norm * p["conv1_bn/gamma"] + p["conv1_bn/beta"]
    expected = np.where(norm > 0, norm, 0.1 * norm).mean(axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_local_response_norm_is_the_published_formula():
    table = (Conv("only", 16, 1, batch_norm=False, activation="linear"), LocalResponseNorm("norm", alpha=0.5))
    parameters = random_parameters(table, 0)
    plane = (PICTURES @ parameters["only/kernel"][0, 0]).astype(np.float64)
    (found,) = outputs(table, parameters, 64, ["norm"], PICTURES)
    expected = np.empty_like(plane)
    for c in range(16):
        window = plane[..., max(0, c - 2) : c + 3]
        expected[..., c] = plane[..., c] / (1 + 0.5 / 5 * (window**2).sum(axis=-1)) ** 0.75
    np.testing.assert_allclose(found, expected.mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("backbone", "layer"), [(darknet19, "conv18"), (googlenet, "inception_5b")])
def test_folding_changes_nothing_but_rounding(backbone, layer):
    table = truncated(backbone.table(0.25), [layer])
    parameters = lively(table)
    plain, folded = fold(table, parameters)
    assert {k: v.shape for k, v in folded.items()} == parameter_shapes(plain)
    assert not any("_bn/" in name for name in folded)
    (before,) = outputs(table, parameters, 64, [layer], PICTURES)
    (after,) = outputs(plain, folded, 64, [layer], PICTURES)
    assert before.shape == (2, channels(table)[layer])
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())


def test_calibration_gives_every_normalised_plane_mean_0_and_variance_1():
    table = truncated(darknet19.table(0.25), ["conv5"])
    model = network.extractor(table, 64, ["conv5"])
    network.set_parameters(model, random_parameters(table, 0))
    pixels = RNG.integers(0, 256, (8, 64, 64, 3), np.uint8)
    network.calibrate(model, pixels)
    import keras

    norms = [layer for layer in model.layers if layer.name.endswith("_bn")]
    planes = keras.Model(model.input, [norm.output for norm in norms])(pixels.astype(np.float32) / 255, training=False)
    assert len(norms) == 5
    for norm, plane in zip(norms, planes, strict=True):
        assert norm.momentum == 0.99
        np.testing.assert_allclose(np.mean(plane, axis=(0, 1, 2)), 0, atol=1e-3)
        np.testing.assert_allclose(np.var(plane, axis=(0, 1, 2)), 1, atol=2e-2)


def test_widths_scale_to_whole_registers():
    assert scaled(30, 1) == 30
    assert [scaled(f, 0.5) for f in (32, 64, 1024)] == [16, 32, 512]
    assert scaled(16, 0.25) == 8
