"""Values of different lengths end to end: taken apart and put together without loss."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.actors.index.ragged import binary_of, gather, lengths_of, parts_of, texts_of

TEXTS = st.lists(st.none() | st.text(max_size=5), max_size=12)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@given(texts=TEXTS, skipped=st.integers(0, 3))
def test_parts_of_gives_the_bytes_of_each_value_of_a_slice(
    kind: pa.DataType, texts: list[str | None], skipped: int
) -> None:
    column = pa.array(texts, kind)[skipped:]
    data, bounds = parts_of(column)
    parts = [data[a:b].tobytes().decode() for a, b in itertools.pairwise(bounds)]
    assert parts == [text or "" for text in texts[skipped:]]
    lengths = [-1 if text is None else len(text.encode()) for text in texts[skipped:]]
    assert lengths_of(column).tolist() == lengths


@given(st.binary(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8))
def test_gather_joins_pieces_in_order(content: bytes, spans: list[tuple[int, int]]) -> None:
    pieces = [(min(a, b, len(content)), min(max(a, b), len(content))) for a, b in spans]
    starts = np.array([a for a, _ in pieces], np.int64)
    lengths = np.array([b - a for a, b in pieces], np.int64)
    joined = gather(np.frombuffer(content, np.uint8), starts, lengths)
    assert joined.tobytes() == b"".join(content[a:b] for a, b in pieces)


@given(st.lists(st.text(max_size=5), max_size=12))
def test_texts_of_and_binary_of_undo_parts_of(texts: list[str]) -> None:
    data, bounds = parts_of(pa.array(texts, pa.string()))
    lengths = np.diff(bounds)
    assert texts_of(data, bounds[:-1], lengths).to_pylist() == texts
    assert binary_of(data, lengths).to_pylist() == [text.encode() for text in texts]
