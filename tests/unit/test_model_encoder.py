"""Fit, save, encode: the walk through the room, and the batch law."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the cpu or gpu extra")

from lookalike.errors import BadModel
from lookalike.model import fit as fitting
from lookalike.model import short_code
from lookalike.model.descriptor import unpack
from lookalike.model.encoder import Encoder
from lookalike.model.fit import fit, near_medians
from lookalike.model.folder import load, save
from lookalike.model.spec import ComponentSpec

SIDE = 32
CATALOGUE = Path(__file__).parents[3] / "shared" / "data" / "catalog"
COMPONENTS = (
    ComponentSpec(name="outline", source="conv3@4x4", bits=256, weight=100),
    ComponentSpec(name="deep", source="conv9@2x2", bits=256, weight=50),
    ComponentSpec(name="colour", source="colour", bits=192, weight=200),
)


def pictures(n, seed=0, side=SIDE):
    """Coloured boxes on coloured grounds, with a little noise."""
    rng = np.random.default_rng(seed)
    out = np.empty((n, side, side, 3), np.int64)
    for picture in out:
        picture[:] = rng.integers(0, 256, 3)
        (top, bottom), (left, right) = np.sort(rng.integers(0, side, (2, 2)), axis=1)
        picture[top : bottom + 1, left : right + 1] = rng.integers(0, 256, 3)
    return (out + rng.integers(-8, 9, out.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    return fit(pictures(80), name="boxes", width=0.25, components=COMPONENTS)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "boxes"
    save(model, path)
    return path


@pytest.fixture(scope="module")
def encoder(folder):
    return Encoder(folder, threads=2)


def same(one, other):
    return one.short.tobytes() == other.short.tobytes() and one.long.tobytes() == other.long.tobytes()


def alone(encoder, pixels):
    parts = [encoder.encode(pixels[i : i + 1]) for i in range(len(pixels))]
    return np.concatenate([p.short for p in parts]), np.concatenate([p.long for p in parts])


def test_one_seed_and_sample_make_one_model(model):
    again = fit(pictures(80), name="boxes", width=0.25, components=COMPONENTS)
    assert again.spec.digest() == model.spec.digest()
    other = fit(pictures(80), name="boxes", width=0.25, components=COMPONENTS, seed=1)
    assert other.spec.digest() != model.spec.digest()


def test_shapes_and_types(encoder):
    found = encoder.encode(pictures(5))
    assert found.short.dtype == found.long.dtype == np.uint64
    assert found.short.shape == (5, encoder.spec.short_words) == (5, 1)
    assert found.long.shape == (5, encoder.spec.long_words) == (5, 11)
    assert len(found) == 5


def test_the_short_code_is_chosen_bits_of_the_long_one(encoder, model):
    found = encoder.encode(pictures(20, 7))
    np.testing.assert_array_equal(unpack(found.short), unpack(found.long)[:, model.short_positions])


def test_bits_of_the_network_split_the_sample_evenly(encoder):
    shares = unpack(encoder.encode(pictures(80)).long)[:, :512].mean(axis=0)
    assert 0.4 < np.median(shares) < 0.6


def test_no_picture_gives_no_codes(encoder):
    found = encoder.encode(np.empty((0, SIDE, SIDE, 3), np.uint8))
    assert found.short.shape == (0, 1)
    assert found.long.shape == (0, 11)


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 8, 9, 13, 16, 32, 33])
def test_codes_do_not_depend_on_the_batch(encoder, batch):
    pixels = pictures(33, 3)
    short, long = alone(encoder, pixels)
    order = np.random.default_rng(batch).permutation(33)
    for start in range(0, 33, batch):
        rows = order[start : start + batch]
        found = encoder.encode(pixels[rows])
        np.testing.assert_array_equal(found.short, short[rows])
        np.testing.assert_array_equal(found.long, long[rows])


def test_codes_do_not_depend_on_the_process_or_its_threads(encoder, folder, tmp_path):
    pixels = pictures(12, 4)
    np.save(tmp_path / "pixels.npy", pixels)
    program = (
        "import sys, numpy as np; from pathlib import Path; from lookalike.model.encoder import Encoder\n"
        "found = Encoder(Path(sys.argv[1]), threads=1).encode(np.load(sys.argv[2]))\n"
        "np.savez(sys.argv[3], short=found.short, long=found.long)"
    )
    arguments = [folder, tmp_path / "pixels.npy", tmp_path / "codes.npz"]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, env=dict(os.environ))
    here, there = encoder.encode(pixels), np.load(tmp_path / "codes.npz")
    np.testing.assert_array_equal(here.short, there["short"])
    np.testing.assert_array_equal(here.long, there["long"])


def test_where_eight_differ_from_one_each_picture_is_encoded_alone(folder, monkeypatch):
    """A library that rounds differently for each batch size, as TensorFlow does for wide layers."""
    calls = []
    real = Encoder._network

    def moody(self, backend):
        run = real(self, backend)

        def uneven(pixels):
            calls.append(len(pixels))
            return [pool * np.float32(1 + 0.01 * (len(pixels) - 1)) for pool in run(pixels)]

        return uneven

    monkeypatch.setattr(Encoder, "_network", moody)
    encoder = Encoder(folder, threads=2)
    assert encoder.pictures_per_call == 1
    pixels = pictures(19, 5)
    calls.clear()
    together = encoder.encode(pixels)
    assert calls == [1] * 19
    short, long = alone(encoder, pixels)
    np.testing.assert_array_equal(together.short, short)
    np.testing.assert_array_equal(together.long, long)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, SIDE, SIDE, 3), np.float32),
        np.zeros((1, SIDE, SIDE + 1, 3), np.uint8),
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.zeros((1, SIDE, SIDE, 4), np.uint8),
    ],
)
def test_other_pixels_are_refused(encoder, pixels):
    with pytest.raises(ValueError, match="expected uint8"):
        encoder.encode(pixels)


def test_a_damaged_folder_is_refused(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "parameters.npz").unlink()
    with pytest.raises(BadModel, match=r"parameters\.npz"):
        Encoder(tmp_path)


def test_a_model_of_colour_alone_needs_no_network(tmp_path):
    save(fit(pictures(4), name="colour", components=COMPONENTS[2:]), tmp_path / "m")
    encoder = Encoder(tmp_path / "m")
    assert encoder.encode(pictures(3)).long.shape == (3, 3)
    assert load(tmp_path / "m").parameters == {}


def test_googlenet_serves_as_backbone(tmp_path):
    part = ComponentSpec(name="a", source="inception_3a@2x2", bits=192, weight=1)
    save(fit(pictures(20), name="g", backbone="googlenet", width=0.25, components=[part]), tmp_path / "m")
    encoder = Encoder(tmp_path / "m")
    pixels = pictures(9, 1)
    assert not same(encoder.encode(pixels), encoder.encode(pixels[::-1]))
    assert len({row.tobytes() for row in encoder.encode(pixels).long}) == 9


@pytest.mark.parametrize(
    ("pixels", "components", "reason"),
    [
        (pictures(1), COMPONENTS, "at least 2"),
        (np.zeros((4, 32, 40, 3), np.uint8), COMPONENTS, "square"),
        (pictures(4), [ComponentSpec(name="a", source="conv1", bits=64, weight=1)], "8 features"),
        (pictures(4), [ComponentSpec(name="a", source="conv40", bits=64, weight=1)], "conv40"),
    ],
)
def test_fit_says_what_is_wrong(pixels, components, reason):
    with pytest.raises(ValueError, match=reason):
        fit(pixels, name="bad", width=0.25, components=components)


def test_the_card_is_honest(model):
    assert "Untrained convolutions plus colour, fitted on 80 photos of this catalogue." in model.card
    assert "Nothing was trained" in model.card
    assert "not promised" in " ".join(model.card.split())


def test_thresholds_keep_off_values_that_many_pictures_share():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3)).astype(np.float32)
    features[:250, 1] = 0.25  # an atom that holds the median
    features[:, 2] = 1.0  # nothing to split
    values, imbalance = near_medians(features)
    nearest = np.abs(features - values).min(axis=0)
    assert (nearest[:2] > 1e-4).all()
    assert imbalance[0] < 0.02
    assert 0.1 < imbalance[1] < 0.35
    assert np.isfinite(values).all()


def test_the_short_code_follows_the_long_distance_better_than_chance():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(600, 12))
    bits = hidden @ rng.normal(size=(12, 512)) + rng.normal(size=(600, 512)) > 0
    weights = np.repeat([100, 0], 256)
    fitted, held_out = bits[:400], bits[400:]

    def correlation(positions):
        left, right = np.triu_indices(200, 1)
        differ = held_out[left] != held_out[right]
        return np.corrcoef(differ[:, positions].sum(axis=1), differ @ weights)[0, 1]

    chosen = short_code.choose(fitted, weights, 64, seed=0)
    assert len(set(chosen.tolist())) == 64
    assert (np.diff(chosen) > 0).all()
    at_random = [correlation(rng.permutation(512)[:64]) for _ in range(20)]
    assert correlation(chosen) > max(at_random)


@pytest.mark.real_data
@pytest.mark.skipif(not CATALOGUE.exists(), reason="needs ../shared/data")
def test_look_alikes_of_real_photos_are_of_the_same_kind(tmp_path):
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


def test_the_default_descriptor_has_2048_bits():
    assert sum(c.bits for c in fitting.DEFAULT_COMPONENTS) == 2048
