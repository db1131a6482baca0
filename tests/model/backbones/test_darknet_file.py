"""Darknet files, byte by byte."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.errors import BadModel
from lookalike.model.backbones import darknet19, darknet_file
from lookalike.model.backbones.layers import Conv, Table, parameter_shapes
from lookalike.training.unsupervised.random_network import random_parameters


def drawn(table: Table, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape, np.float32) for name, shape in parameter_shapes(table).items()}


def test_float_count_is_that_of_the_published_file() -> None:
    assert darknet_file.float_count(darknet19.table(1, 1000)) == 20_856_776


@pytest.mark.parametrize(("width", "classes"), [(1.0, 1000), (0.5, 36), (0.25, None)])
def test_read_gives_what_was_written(tmp_path: Path, width: float, classes: int | None) -> None:
    table = darknet19.table(width, classes)
    parameters = drawn(table)
    header = darknet_file.Header(0, 2, 5, 2**40)
    darknet_file.write(tmp_path / "a.weights", table, parameters, header)
    assert (tmp_path / "a.weights").stat().st_size == 20 + 4 * darknet_file.float_count(table)
    found_header, found = darknet_file.read(tmp_path / "a.weights", table)
    assert found_header == header
    assert found.keys() == parameters.keys()
    for name, array in parameters.items():
        np.testing.assert_array_equal(found[name], array)


def test_write_has_darknets_layout(tmp_path: Path) -> None:
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
    darknet_file.write(tmp_path / "ours", table, p, darknet_file.Header(seen=64))
    assert (tmp_path / "ours").read_bytes() == content
    _, found = darknet_file.read(tmp_path / "ours", table)
    assert all((found[name] == p[name]).all() for name in p)


@pytest.mark.parametrize(("major", "minor", "size"), [(0, 1, 4), (0, 2, 8), (1, 0, 8)])
def test_write_makes_seen_long_from_version_0_2_on(tmp_path: Path, major: int, minor: int, size: int) -> None:
    table = (Conv("conv1", 1, 1),)
    p = drawn(table)
    path = tmp_path / "w"
    darknet_file.write(path, table, p, darknet_file.Header(major, minor, 0, 7))
    assert path.stat().st_size == 12 + size + 4 * 7
    header, found = darknet_file.read(path, table)
    assert header == (major, minor, 0, 7)
    np.testing.assert_array_equal(found["conv1/kernel"], p["conv1/kernel"])


@pytest.mark.parametrize("change", [-4, 4, -1, 1000])
def test_read_refuses_another_size_and_names_both(tmp_path: Path, change: int) -> None:
    table = darknet19.table(0.25, 10)
    path = tmp_path / "w"
    darknet_file.write(path, table, random_parameters(table, 0))
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    expected = darknet_file.float_count(table)
    found = (len(content) + change - 20) // 4
    with pytest.raises(BadModel, match=f"{found:,}.*{expected:,}"):
        darknet_file.read(path, table)


def test_read_refuses_another_number_of_classes(tmp_path: Path) -> None:
    darknet_file.write(tmp_path / "w", darknet19.table(0.25, 10), random_parameters(darknet19.table(0.25, 10), 0))
    with pytest.raises(BadModel, match="floats"):
        darknet_file.read(tmp_path / "w", darknet19.table(0.25, 11))


def test_read_refuses_a_file_too_short_for_a_header_and_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"\0" * 9)
    for name in ("short", "none"):
        with pytest.raises(BadModel, match=name):
            darknet_file.read(tmp_path / name, darknet19.table(0.25))


def test_write_refuses_a_wrong_parameter_and_leaves_no_file(tmp_path: Path) -> None:
    table = darknet19.table(0.25)
    parameters = random_parameters(table, 0)
    parameters["conv3/kernel"] = parameters["conv3/kernel"][:1]
    with pytest.raises(BadModel, match="conv3/kernel"):
        darknet_file.write(tmp_path / "w", table, parameters)
    assert list(tmp_path.iterdir()) == []


def test_read_gives_parameters_or_bad_model_at_every_length(tmp_path: Path) -> None:
    table = (Conv("conv1", 2, 1),)
    path = tmp_path / "w"
    darknet_file.write(path, table, drawn(table))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(BadModel, match="w "):
            darknet_file.read(path, table)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_read_names_what_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a.weights")
    with pytest.raises(BadModel, match=r"a\.weights is no regular file"):
        darknet_file.read(tmp_path / "a.weights", darknet19.table(0.25))


def test_read_looks_at_the_size_before_it_reads(tmp_path: Path) -> None:
    with (tmp_path / "w").open("wb") as file:
        file.truncate(1 << 40)  # sparse: it takes no room
    with pytest.raises(BadModel, match="holds 274,877,906,940 floats"):
        darknet_file.read(tmp_path / "w", darknet19.table(0.25))
