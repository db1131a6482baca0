"""An untrained network."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the cpu or gpu extra")

from support.models import boxes

from lookalike.model import keras_runtime
from lookalike.model.backbones import darknet19
from lookalike.model.backbones.layers import parameter_shapes, truncated
from lookalike.training.unsupervised.random_network import calibrate, random_network, random_parameters

keras_runtime.start(1)
build = pytest.importorskip("lookalike.model.backbones.build")


def test_random_parameters_are_of_the_table_and_of_the_seed() -> None:
    table = truncated(darknet19.table(0.25), ["conv4"])
    drawn, again, other = (random_parameters(table, seed) for seed in (3, 3, 4))
    assert {name: array.shape for name, array in drawn.items()} == parameter_shapes(table)
    for name, array in drawn.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, again[name])
        assert np.array_equal(array, other[name]) != name.endswith("/kernel")


def test_calibrate_gives_every_normalised_plane_mean_0_and_variance_1() -> None:
    table = truncated(darknet19.table(0.25), ["conv5"])
    model = build.extractor(table, 64, ["conv5"])
    build.set_parameters(model, random_parameters(table, 0))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    calibrate(model, pixels)
    import keras

    norms = [layer for layer in model.layers if layer.name.endswith("_bn")]
    planes = keras.Model(model.input, [norm.output for norm in norms])(pixels.astype(np.float32) / 255, training=False)
    assert len(norms) == 5
    for norm, plane in zip(norms, planes, strict=True):
        assert norm.momentum == 0.99
        np.testing.assert_allclose(np.mean(plane, axis=(0, 1, 2)), 0, atol=1e-3)
        np.testing.assert_allclose(np.var(plane, axis=(0, 1, 2)), 1, atol=2e-2)


def test_random_network_pools_each_source_of_each_photo_in_order() -> None:
    pixels = boxes(70)  # more than one batch
    sources = ["conv3@2x2", "conv1"]
    parameters, pools = random_network(pixels, "darknet19", 0.25, sources, seed=1)
    assert parameters.keys() == parameter_shapes(truncated(darknet19.table(0.25), ["conv3"])).keys()
    assert [pool.shape for pool in pools] == [(70, 4 * 32), (70, 8)]
    model = build.extractor(truncated(darknet19.table(0.25), ["conv3"]), 32, sources)
    build.set_parameters(model, parameters)
    for pool, expected in zip(pools, model(pixels.astype(np.float32) / 255, training=False), strict=True):
        np.testing.assert_allclose(pool, np.asarray(expected), rtol=1e-3, atol=1e-4)


def test_random_network_without_sources_is_none() -> None:
    assert random_network(boxes(2), "darknet19", 0.5, [], seed=0) == ({}, [])
