"""The names that a spec may use."""

from __future__ import annotations

from typing import get_args

import pytest

from lookalike.model.backbones.registry import BACKBONES, network_table
from lookalike.model.spec import Backbone


def test_registry_has_the_backbones_that_a_spec_may_name() -> None:
    assert set(BACKBONES) == set(get_args(Backbone))


@pytest.mark.parametrize(("backbone", "layer"), [("darknet19", "conv8"), ("googlenet", "inception_4a")])
def test_network_table_ends_at_the_deepest_source(backbone: str, layer: str) -> None:
    assert network_table(backbone, 0.5, ["conv1@2x2", f"{layer}@2x2"])[-1].name == layer


def test_network_table_of_no_source_has_no_layer() -> None:
    assert network_table("darknet19", 0.5, []) == ()


@pytest.mark.parametrize(
    ("backbone", "source", "reason"),
    [
        ("darknet19", "inception_3a", "darknet19: .* inception_3a"),
        ("resnet", "conv1", "only darknet19, googlenet"),
    ],
)
def test_network_table_names_what_is_not_there(backbone: str, source: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        network_table(backbone, 1, [source])
