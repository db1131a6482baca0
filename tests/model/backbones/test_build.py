"""The networks that Keras builds of the tables, against NumPy and the published counts."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the cpu or gpu extra")

from support.networks import PHOTOS, lively_parameters, outputs

from lookalike.model import keras_runtime
from lookalike.model.backbones import darknet19, googlenet
from lookalike.model.backbones.layers import Conv, LocalResponseNorm, parameter_shapes, sides, truncated
from lookalike.training.unsupervised.random_network import random_parameters

keras_runtime.start(1)
build = pytest.importorskip("lookalike.model.backbones.build")


@pytest.mark.parametrize(
    ("backbone", "classes", "count"),
    [(darknet19, 1000, 20_856_776), (googlenet, 1000, 6_998_552), (googlenet, 230, 6_209_302)],
)
def test_classifier_has_the_published_parameters(backbone: ModuleType, classes: int, count: int) -> None:
    table = backbone.table(1, classes)
    model = build.classifier(table, 224)
    assert model.count_params() == count
    assert model.output_shape == (None, classes)
    assert {k: v.shape for k, v in build.get_parameters(model).items()} == parameter_shapes(table)


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
def test_classifier_has_planes_of_the_published_shapes(
    backbone: ModuleType, layer: str, shape: tuple[int, int, int]
) -> None:
    model = build.classifier(backbone.table(), 224)
    names = {plain.name: plain for plain in model.layers}
    found = names.get(f"{layer}_leaky", names.get(layer))
    if found is None:  # a local response norm is several operations; its pool follows it
        assert names["pool2"].input.shape[1:] == shape
    else:
        assert found.output.shape[1:] == shape


@pytest.mark.parametrize("side_px", [32, 65, 100, 224])
@pytest.mark.parametrize("backbone", [darknet19, googlenet])
def test_classifier_has_planes_of_the_sides_that_the_table_says(backbone: ModuleType, side_px: int) -> None:
    table = backbone.table(0.25)
    planes = {layer.name: layer.output.shape for layer in build.classifier(table, side_px).layers}
    for name, side in sides(table, side_px).items():
        if name in planes:  # a local response norm is several operations
            assert planes[name][1:3] == (side, side)


def test_extractor_ends_at_the_deepest_layer_of_its_sources() -> None:
    model = build.extractor(darknet19.table(0.25), 64, ["conv5@2x2", "conv3"])
    names = {layer.name for layer in model.layers}
    assert "conv5" in names
    assert "conv6" not in names
    expected = parameter_shapes(truncated(darknet19.table(0.25), ["conv5"]))
    assert {k: v.shape for k, v in build.get_parameters(model).items()} == expected


def test_extractor_refuses_an_unknown_layer() -> None:
    with pytest.raises(ValueError, match="conv77"):
        build.extractor(darknet19.table(0.25), 64, ["conv77"])


def test_extractor_refuses_a_grid_finer_than_the_plane() -> None:
    with pytest.raises(ValueError, match="2 x 2 cannot be pooled 3 x 1"):
        build.extractor(darknet19.table(0.25), 64, ["conv18@3x1"])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (4, 2), (3, 3), (5, 7)])
def test_extractor_pools_the_mean_of_each_cell(rows: int, columns: int) -> None:
    table = (Conv("only", 8, 1, batch_norm=False, activation="linear"),)
    parameters = random_parameters(table, 0)
    plane = PHOTOS @ parameters["only/kernel"][0, 0]
    (found,) = outputs(table, parameters, 64, [f"only@{rows}x{columns}"], PHOTOS)
    cells = []
    for r in range(rows):
        for c in range(columns):
            top, bottom = 64 * r // rows, -(-64 * (r + 1) // rows)
            left, right = 64 * c // columns, -(-64 * (c + 1) // columns)
            cells.append(plane[:, top:bottom, left:right].mean(axis=(1, 2)))
    np.testing.assert_allclose(found, np.concatenate(cells, axis=1), rtol=1e-5, atol=1e-5)


def test_extractor_convolves_as_darknet_does() -> None:
    """3x3, zero padding, (x - mean) / sqrt(variance + 1e-5) * scale + bias, leaky 0.1; value by value."""
    table = (Conv("conv1", 8, 3),)
    p = lively_parameters(table)
    p["conv1_bn/moving_variance"] = np.full(8, 1e-5, np.float32)  # so that the epsilon is half of the root
    (found,) = outputs(table, p, 32, ["conv1"], PHOTOS[:, :32, :32])
    padded = np.pad(PHOTOS[:, :32, :32].astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = sum(
        padded[:, y : y + 32, x : x + 32] @ p["conv1/kernel"][y, x].astype(np.float64)
        for y in range(3)
        for x in range(3)
    )
    norm = (total - p["conv1_bn/moving_mean"]) / np.sqrt(p["conv1_bn/moving_variance"] + 1e-5)
    norm = norm * p["conv1_bn/gamma"] + p["conv1_bn/beta"]
    expected = np.where(norm > 0, norm, 0.1 * norm).mean(axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_extractor_normalises_local_responses_as_published() -> None:
    table = (Conv("only", 16, 1, batch_norm=False, activation="linear"), LocalResponseNorm("norm", alpha=0.5))
    parameters = random_parameters(table, 0)
    plane = (PHOTOS @ parameters["only/kernel"][0, 0]).astype(np.float64)
    (found,) = outputs(table, parameters, 64, ["norm"], PHOTOS)
    expected = np.empty_like(plane)
    for c in range(16):
        window = plane[..., max(0, c - 2) : c + 3]
        expected[..., c] = plane[..., c] / (1 + 0.5 / 5 * (window**2).sum(axis=-1)) ** 0.75
    np.testing.assert_allclose(found, expected.mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)


def test_get_parameters_gives_what_was_set() -> None:
    table = truncated(darknet19.table(0.25), ["conv3"])
    model = build.extractor(table, 64, ["conv3"])
    parameters = lively_parameters(table)
    build.set_parameters(model, parameters)
    found = build.get_parameters(model)
    assert found.keys() == parameters.keys()
    for name, array in parameters.items():
        np.testing.assert_array_equal(found[name], array)
