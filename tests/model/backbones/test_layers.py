"""Tables of layers, as published, scaled and cut."""

from __future__ import annotations

import pytest

from lookalike.model.backbones import darknet19, googlenet
from lookalike.model.backbones.layers import Conv, scaled, sides, truncated


def test_tables_name_their_layers_as_published() -> None:
    assert [r.name for r in darknet19.table(1, 10) if isinstance(r, Conv)] == [f"conv{i}" for i in range(1, 20)]
    inceptions = [r.name for r in googlenet.table() if r.name.startswith("inception")]
    assert inceptions == [f"inception_{n}" for n in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]


def test_darknet19_has_7200_channels_in_its_hidden_convolutions() -> None:
    assert sum(layer.filters for layer in darknet19.table() if isinstance(layer, Conv)) == 7200


def test_scaled_gives_whole_registers() -> None:
    assert scaled(30, 1) == 30
    assert [scaled(f, 0.5) for f in (32, 64, 1024)] == [16, 32, 512]
    assert scaled(16, 0.25) == 8


def test_truncated_ends_with_the_deepest_of_the_layers() -> None:
    assert [layer.name for layer in truncated(darknet19.table(), ["conv1", "pool2"])][-1] == "pool2"
    assert truncated(darknet19.table(), []) == ()
    with pytest.raises(ValueError, match="no layer conv77"):
        truncated(darknet19.table(), ["conv1", "conv77"])


def test_sides_are_halved_by_each_stride_and_rounded_up() -> None:
    found = sides(darknet19.table(), 100)
    assert [found[f"pool{i}"] for i in range(1, 6)] == [50, 25, 13, 7, 4]
    assert found["conv18"] == 4
