"""What a shard reports when listings are collapsed: enough for every threshold that all shards may agree on."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.actors.query.collapse import best_per_listing, widen_to_listings
from lookalike.kernels import hamming

SHORT_BITS = 6

rows = st.lists(
    st.tuples(st.integers(0, SHORT_BITS), st.integers(0, 3), st.integers(0, 5)),  # short, long, listing
    max_size=40,
)


def found_of(short: list[int], long: list[int]) -> hamming.Found:
    return hamming.Found(
        rows=np.arange(len(short)),
        short=np.array(short, np.uint16),
        long=np.array(long, np.uint32),
        histogram=np.bincount(np.array(short, np.int64), minlength=SHORT_BITS + 1),
    )


@settings(deadline=None)
@given(rows, st.integers(1, 8))
def test_best_per_listing_keeps_the_collapsed_answer_of_every_threshold(
    given_rows: list[tuple[int, int, int]], count: int
) -> None:
    short, long, listing = ([row[n] for row in given_rows] for n in range(3))
    keys = np.arange(len(short), dtype=np.uint64)[::-1].copy()
    kept = best_per_listing(found_of(short, long), keys, np.array(listing, np.int64), count).rows.tolist()

    def collapsed(chosen: list[int], within: int) -> list[int]:
        ranked = sorted((row for row in chosen if short[row] <= within), key=lambda row: (long[row], keys[row]))
        firsts = [row for at, row in enumerate(ranked) if listing[row] not in {listing[other] for other in ranked[:at]}]
        return firsts[:count]

    assert len(set(kept)) == len(kept)
    for within in range(SHORT_BITS + 1):
        assert collapsed(kept, within) == collapsed(list(range(len(short))), within)


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 8))
def test_widen_to_listings_finds_enough_listings_or_every_row(listing: list[int], count: int) -> None:
    def best(wanted: int) -> hamming.Found:
        rows = min(wanted, len(listing))
        return found_of([0] * rows, list(range(rows)))

    found = widen_to_listings(best(count), count, best, lambda rows: np.array(listing, np.int64)[rows])
    listings = {listing[row] for row in found.rows}
    assert len(listings) >= count or len(found.rows) == len(listing)
