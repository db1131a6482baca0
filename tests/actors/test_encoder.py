"""The encoder's actor: warm before its first call, and the same codes whatever comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the cpu or gpu extra")

from support.models import boxes, tiny_model

from lookalike.actors.encoder import EncoderActor
from lookalike.cluster.coordinator.encoding import MAX_PHOTOS_PER_CALL
from lookalike.model import saved_model
from lookalike.storage import Location


def test_encoder_compiles_nothing_after_it_is_made(tmp_path: Path) -> None:
    """The first photo of each batch size would have to wait for it."""
    saved_model.save(tiny_model(), tmp_path / "model")
    actor = EncoderActor(Location.parse(tmp_path / "model"))
    before = actor.compilations
    assert before > 0
    photos = boxes(MAX_PHOTOS_PER_CALL)
    alone = [asyncio.run(actor.encode(photos[i : i + 1])) for i in range(len(photos))]
    for size in range(1, MAX_PHOTOS_PER_CALL + 1):
        short, long = asyncio.run(actor.encode(photos[:size]))
        np.testing.assert_array_equal(short, np.concatenate([codes[0] for codes in alone[:size]]))
        np.testing.assert_array_equal(long, np.concatenate([codes[1] for codes in alone[:size]]))
    assert actor.compilations == before
