"""The encoder, on a small fitted model: shapes, and that a photo's codes are the same in any company."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("keras", reason="needs the cpu or gpu extra")

from support.models import boxes

from lookalike.errors import BadModel
from lookalike.model import keras_runtime
from lookalike.model.descriptor import Descriptors, Features, Pixels, Words, unpack
from lookalike.model.encoder import Encoder
from lookalike.model.saved_model import Model, load, save
from lookalike.model.spec import ComponentSpec
from lookalike.training.unsupervised.fit import fit

SIDE_PX = 32
COMPONENTS = (
    ComponentSpec(name="outline", source="conv3@4x4", bits=256, weight=100),
    ComponentSpec(name="deep", source="conv9@2x2", bits=256, weight=50),
    ComponentSpec(name="colour", source="colour", bits=192, weight=200),
)


@pytest.fixture(scope="module")
def model() -> Model:
    return fit(boxes(80), name="boxes", width=0.25, components=COMPONENTS)


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "boxes"
    save(model, path)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return Encoder(folder, threads=2)


def encode_alone(encoder: Encoder, pixels: Pixels) -> tuple[Words, Words]:
    parts = [encoder.encode(pixels[i : i + 1]) for i in range(len(pixels))]
    return np.concatenate([p.short for p in parts]), np.concatenate([p.long for p in parts])


def assert_are(found: Descriptors, short: Words, long: Words) -> None:
    np.testing.assert_array_equal(found.short, short)
    np.testing.assert_array_equal(found.long, long)


@pytest.mark.parametrize("count", [0, 1, 5, 9])
def test_encoder_gives_the_words_that_the_spec_says(encoder: Encoder, count: int) -> None:
    found = encoder.encode(boxes(count))
    assert found.short.dtype == found.long.dtype == np.uint64
    assert found.short.shape == (count, encoder.spec.short_words) == (count, 1)
    assert found.long.shape == (count, encoder.spec.long_words) == (count, 11)
    assert len(found) == count


def test_encoder_takes_the_short_code_from_the_long_one(encoder: Encoder, model: Model) -> None:
    found = encoder.encode(boxes(20, 7))
    np.testing.assert_array_equal(unpack(found.short), unpack(found.long)[:, model.short_positions])


def test_encoder_splits_the_fitted_sample_evenly(encoder: Encoder) -> None:
    shares = unpack(encoder.encode(boxes(80)).long)[:, :512].mean(axis=0)
    assert 0.4 < np.median(shares) < 0.6


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 8, 9, 13, 16, 32, 33])
def test_encoder_gives_the_same_codes_in_any_batch(encoder: Encoder, batch: int) -> None:
    pixels = boxes(33, 3)
    short, long = encode_alone(encoder, pixels)
    order = np.random.default_rng(batch).permutation(33)
    for start in range(0, 33, batch):
        rows = order[start : start + batch]
        assert_are(encoder.encode(pixels[rows]), short[rows], long[rows])


def test_encoder_gives_the_same_codes_in_another_process_of_other_threads(
    encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    pixels = boxes(12, 4)
    np.save(tmp_path / "pixels.npy", pixels)
    program = (
        "import sys, numpy as np; from pathlib import Path; from lookalike.model.encoder import Encoder\n"
        "found = Encoder(Path(sys.argv[1]), threads=1).encode(np.load(sys.argv[2]))\n"
        "np.savez(sys.argv[3], short=found.short, long=found.long)"
    )
    arguments = [folder, tmp_path / "pixels.npy", tmp_path / "codes.npz"]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, env=dict(os.environ))
    there = np.load(tmp_path / "codes.npz")
    assert_are(encoder.encode(pixels), there["short"], there["long"])


def test_encoder_encodes_one_by_one_where_a_full_call_differs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow rounds so at some widths, but on which CPU depends: here every batch size rounds otherwise."""
    calls: list[int] = []
    real = Encoder._network

    def network(self: Encoder, backend: str) -> keras_runtime.Run:
        run = real(self, backend)

        def uneven(pixels: Pixels) -> list[Features]:
            calls.append(len(pixels))
            return [pool * np.float32(1 + 0.01 * (len(pixels) - 1)) for pool in run(pixels)]

        return uneven

    monkeypatch.setattr(Encoder, "_network", network)
    encoder = Encoder(folder, threads=2)
    assert encoder.photos_per_call == 1
    pixels = boxes(19, 5)
    calls.clear()
    together = encoder.encode(pixels)
    assert calls == [1] * 19
    assert_are(together, *encode_alone(encoder, pixels))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, SIDE_PX, SIDE_PX, 3), np.float32),
        np.zeros((1, SIDE_PX, SIDE_PX + 1, 3), np.uint8),
        np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8),
        np.zeros((1, SIDE_PX, SIDE_PX, 4), np.uint8),
    ],
)
def test_encoder_refuses_other_pixels(encoder: Encoder, pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        encoder.encode(pixels)


def test_encoder_refuses_a_damaged_folder(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "parameters.npz").unlink()
    with pytest.raises(BadModel, match=r"parameters\.npz"):
        Encoder(tmp_path)


def test_encoder_of_colour_alone_needs_no_network(tmp_path: Path) -> None:
    save(fit(boxes(4), name="colour", components=COMPONENTS[2:]), tmp_path / "m")
    encoder = Encoder(tmp_path / "m")
    assert encoder.encode(boxes(3)).long.shape == (3, 3)
    assert load(tmp_path / "m").parameters == {}


def test_encoder_tells_photos_apart_by_googlenet(tmp_path: Path) -> None:
    part = ComponentSpec(name="a", source="inception_3a@2x2", bits=192, weight=1)
    save(fit(boxes(20), name="g", backbone="googlenet", width=0.25, components=[part]), tmp_path / "m")
    encoder = Encoder(tmp_path / "m")
    pixels = boxes(9, 1)
    found, turned = encoder.encode(pixels), encoder.encode(pixels[::-1])
    assert_are(turned, found.short[::-1], found.long[::-1])
    assert len({row.tobytes() for row in found.long}) == 9
