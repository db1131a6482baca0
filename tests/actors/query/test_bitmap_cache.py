"""The cache of bitmaps: bounded by bytes, least used first out, and never a bitmap of a later snapshot."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from support.rows import COMPONENT_WORDS, LONG_WORDS, SHORT_WORDS, batch_of, make_row

from lookalike.actors.index.rows import Rows
from lookalike.actors.query import bitmap_cache
from lookalike.actors.query.bitmap_cache import BitmapCache
from lookalike.actors.query.evaluate import allowed
from lookalike.actors.query.filters import Filter, NumberRange, OneOf


def shard_of(count: int) -> Rows:
    rows = Rows(SHORT_WORDS, LONG_WORDS, COMPONENT_WORDS)
    rows.apply(batch_of([make_row(str(number), price=float(number)) for number in range(count)]))
    rows.publish()
    return rows


def above(price: float) -> Filter:
    return NumberRange(field="price", gt=price)


def test_cache_evicts_the_least_recently_used_and_stays_within_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitmap_cache, "MIN_BYTES", 5000)
    cache = BitmapCache()
    words = np.zeros(1, np.uint64)
    with shard_of(50).reading() as snapshot:
        for price in range(4):
            cache.put(above(price), snapshot, words)
        assert cache.get(above(0), snapshot) is not None
        cache.put(above(4), snapshot, words)
        assert [cache.get(above(price), snapshot) is not None for price in range(5)] == [True, False, True, True, True]
        for price in range(1000):
            cache.put(above(price), snapshot, words)
            assert cache.held_bytes <= 5000
        assert len(cache) == 4
        cache.put(above(7), snapshot, np.zeros(10**6, np.uint64))  # more than all that is allowed
        assert (len(cache), cache.held_bytes) == (0, 0)


def test_cache_counts_the_values_of_a_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitmap_cache, "MIN_BYTES", 110_000)
    cache = BitmapCache()
    with shard_of(50).reading() as snapshot:
        for step in range(10):
            values = [f"{step}{number:0100}" for number in range(300)]
            cache.put(OneOf.model_validate({"field": "brand", "in": values}), snapshot, np.zeros(1, np.uint64))
        assert len(cache) == 2


def test_cache_replaces_a_bitmap_only_by_one_of_the_same_or_a_later_snapshot() -> None:
    rows, cache = shard_of(50), BitmapCache()
    first, second = np.zeros(1, np.uint64), np.ones(1, np.uint64)
    with rows.reading() as before:
        rows.apply(batch_of([make_row("7", price=3.0)]))
        rows.publish()
        with rows.reading() as after:
            cache.put(above(1), after, second)
            cache.put(above(1), before, first)
            held = cache.get(above(1), after)
            assert held is not None
            assert held.bitmap is second
            assert len(held.stale) == 0
            assert cache.get(above(1), before) is None
            assert cache.held_bytes == first.nbytes + bitmap_cache._bytes_of(above(1))


def test_cache_serves_threads_that_search_while_rows_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitmap_cache, "MIN_BYTES", 6000)  # so that it evicts all the time
    rows, cache = shard_of(500), BitmapCache()
    stop, wrong = threading.Event(), list[Any]()

    def search(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            with rows.reading() as snapshot:
                price = float(rng.integers(0, 8) * 100)
                bits = allowed([above(price)], snapshot, cache)
                assert bits is not None
                expected = sum(price < value for value in snapshot.numbers("price")[visible_of(snapshot)].tolist())
                if np.bitwise_count(bits).sum() != expected:
                    wrong.append((snapshot.generation, price))

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    rng = np.random.default_rng(9)
    for _ in range(150):
        chosen = rng.choice(500, 20, replace=False).tolist()
        rows.apply(batch_of([make_row(str(number), price=float(rng.integers(0, 900))) for number in chosen]))
        rows.publish()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def visible_of(snapshot: Any) -> Any:
    return np.concatenate([np.empty(0, np.int64), *snapshot.visible_rows()])
