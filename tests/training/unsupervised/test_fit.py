"""A model fitted to a sample without training."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the cpu or gpu extra")

from support.models import boxes

from lookalike.model.descriptor import Pixels, unpack
from lookalike.model.encoder import Encoder
from lookalike.model.saved_model import save
from lookalike.model.spec import ComponentSpec
from lookalike.training.unsupervised.fit import DEFAULT_COMPONENTS, fit

CATALOGUE = Path(__file__).parents[4] / "shared" / "data" / "catalog"
COMPONENTS = (
    ComponentSpec(name="outline", source="conv3@4x4", bits=256, weight=100),
    ComponentSpec(name="colour", source="colour", bits=192, weight=250),
)


def of_source(source: str) -> list[ComponentSpec]:
    return [ComponentSpec(name="a", source=source, bits=64, weight=1)]


def test_fit_makes_one_model_of_one_seed_and_sample() -> None:
    one, again = (fit(boxes(80), name="boxes", width=0.25, components=COMPONENTS) for _ in range(2))
    assert one.spec == again.spec
    assert one.card == again.card
    other = fit(boxes(80), name="boxes", width=0.25, components=COMPONENTS, seed=1)
    assert other.spec.digest() != one.spec.digest()


@pytest.mark.parametrize(
    ("pixels", "components", "reason"),
    [
        (boxes(1), COMPONENTS, "at least 2"),
        (np.zeros((4, 32, 40, 3), np.uint8), COMPONENTS, "square"),
        (boxes(4), of_source("conv1"), "conv1: there are 8 features, not 64"),
        (boxes(4), of_source("conv40"), "conv40"),
        (boxes(4), of_source("conv18@2x2"), "1 x 1 cannot be pooled 2 x 2"),
    ],
)
def test_fit_says_what_is_wrong(pixels: Pixels, components: Sequence[ComponentSpec], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fit(pixels, name="bad", width=0.25, components=components)


def test_fit_writes_a_card_that_promises_no_more_than_holds() -> None:
    card = " ".join(fit(boxes(80), name="boxes", width=0.25, components=COMPONENTS).card.split())
    assert "Untrained convolutions plus colour, fitted on 80 photos of this catalogue. Nothing was trained." in card
    assert "| colour | colour | 192 | 2.50 |" in card
    assert "it is not promised" in card
    assert "was not measured" in card


def test_default_components_have_2048_bits() -> None:
    assert sum(c.bits for c in DEFAULT_COMPONENTS) == 2048


@pytest.mark.real_data
@pytest.mark.skipif(not CATALOGUE.exists(), reason="needs ../shared/data")
def test_fit_finds_real_photos_of_the_same_kind(tmp_path: Path) -> None:
    from PIL import Image

    with (CATALOGUE / "catalog.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    rows = [rows[i] for i in rng.permutation(len(rows))[:900]]
    pixels = np.stack([np.asarray(Image.open(CATALOGUE / r["file"]).convert("RGB").resize((128, 128))) for r in rows])
    save(fit(pixels[:200], name="real"), tmp_path / "m")
    encoder = Encoder(tmp_path / "m")
    bits = np.where(unpack(encoder.encode(pixels[200:]).long), np.float32(1), np.float32(-1))
    weights = np.repeat([c.weight for c in encoder.spec.components], [c.bits for c in encoder.spec.components])
    likeness = (bits * weights) @ bits.T
    kinds, groups, colours = (np.array([r[f] for r in rows[200:]]) for f in ("level3", "group_id", "colour"))
    likeness[groups[:, None] == groups] = -np.inf
    first = likeness.argmax(axis=1)
    assert (kinds[first] == kinds).mean() > 0.5  # chance is 0.05
    assert (colours[first] == colours).mean() > 0.33  # chance is 0.11
