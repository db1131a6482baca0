"""Darknet files, byte by byte."""

import struct

import numpy as np
import pytest

from lookalike.errors import BadModel
from lookalike.model import darknet19, weights
from lookalike.model.fit import random_parameters
from lookalike.model.layers import Conv, parameter_shapes


def drawn(table, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape, np.float32) for name, shape in parameter_shapes(table).items()}


def test_darknet19_has_the_floats_of_the_published_file():
    assert weights.float_count(darknet19.table(1, 1000)) == 20_856_776


def test_hidden_convolutions_have_7200_channels():
    assert sum(row.filters for row in darknet19.table() if isinstance(row, Conv)) == 7200


@pytest.mark.parametrize(("width", "classes"), [(1.0, 1000), (0.5, 36), (0.25, None)])
def test_what_is_written_is_read(tmp_path, width, classes):
    table = darknet19.table(width, classes)
    parameters = drawn(table)
    header = weights.Header(0, 2, 5, 2**40)
    weights.write(tmp_path / "a.weights", table, parameters, header)
    assert (tmp_path / "a.weights").stat().st_size == 20 + 4 * weights.float_count(table)
    found_header, found = weights.read(tmp_path / "a.weights", table)
    assert found_header == header
    assert found.keys() == parameters.keys()
    for name, array in parameters.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_layout_is_darknets(tmp_path):
    """Two layers written value by value, as Darknet's own loop does."""
    table = (Conv("conv1", 2, 3), Conv("conv2", 1, 1, batch_norm=False))
    p = drawn(table)
    content = struct.pack("<iiiq", 0, 2, 0, 64)
    for array in ("beta", "gamma", "moving_mean", "moving_variance"):
        content += struct.pack("<2f", *p[f"conv1_bn/{array}"])
    for out in range(2):
        for inputs in range(3):
            for y in range(3):
                for x in range(3):
                    content += struct.pack("<f", p["conv1/kernel"][y, x, inputs, out])
    content += struct.pack("<f", *p["conv2/bias"]) + struct.pack("<2f", *p["conv2/kernel"][0, 0, :, 0])
    weights.write(tmp_path / "ours", table, p, weights.Header(seen=64))
    assert (tmp_path / "ours").read_bytes() == content
    _, found = weights.read(tmp_path / "ours", table)
    assert all((found[name] == p[name]).all() for name in p)


@pytest.mark.parametrize(("major", "minor", "size"), [(0, 1, 4), (0, 2, 8), (1, 0, 8)])
def test_seen_is_long_from_version_0_2_on(tmp_path, major, minor, size):
    table = (Conv("conv1", 1, 1),)
    p = drawn(table)
    path = tmp_path / "w"
    weights.write(path, table, p, weights.Header(major, minor, 0, 7))
    assert path.stat().st_size == 12 + size + 4 * 7
    header, found = weights.read(path, table)
    assert header == (major, minor, 0, 7)
    np.testing.assert_array_equal(found["conv1/kernel"], p["conv1/kernel"])


@pytest.mark.parametrize("change", [-4, 4, -1, 1000])
def test_another_size_is_refused_and_both_numbers_named(tmp_path, change):
    table = darknet19.table(0.25, 10)
    path = tmp_path / "w"
    weights.write(path, table, random_parameters(table, 0))
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    expected = weights.float_count(table)
    found = (len(content) + change - 20) // 4
    with pytest.raises(BadModel, match=f"{found:,}.*{expected:,}"):
        weights.read(path, table)


def test_another_number_of_classes_is_refused(tmp_path):
    weights.write(tmp_path / "w", darknet19.table(0.25, 10), random_parameters(darknet19.table(0.25, 10), 0))
    with pytest.raises(BadModel, match="floats"):
        weights.read(tmp_path / "w", darknet19.table(0.25, 11))


def test_a_file_too_short_for_a_header_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "short").write_bytes(b"\0" * 9)
    for name in ("short", "none"):
        with pytest.raises(BadModel, match=name):
            weights.read(tmp_path / name, darknet19.table(0.25))


def test_a_wrong_parameter_is_refused_and_leaves_no_file(tmp_path):
    table = darknet19.table(0.25)
    parameters = random_parameters(table, 0)
    parameters["conv3/kernel"] = parameters["conv3/kernel"][:1]
    with pytest.raises(BadModel, match="conv3/kernel"):
        weights.write(tmp_path / "w", table, parameters)
    assert list(tmp_path.iterdir()) == []
