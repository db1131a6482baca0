"""No location is left in a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.cluster.http.locations import without_locations
from lookalike.storage import Location

part = st.text("abc123 _.-", min_size=1, max_size=8).map(lambda text: f"secret{text.strip()}x")
paths = st.lists(part, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
locations = st.one_of(paths, paths.map(lambda path: f"s3:/{path}"), paths.map(lambda path: f"https:/{path}"))
sentences = st.sampled_from(
    [
        "cannot read {}: Permission denied",
        "{} is damaged; restore it",
        "[Errno 2] No such file or directory: '{}'",
        "the photo of a: unreachable: cannot read {}: no answer",
        "there is no folder {}",
        "{}",
        "({})",
    ]
)


@given(sentences, locations)
def test_no_location_is_left(sentence: str, location: str) -> None:
    assert "secret" not in without_locations(sentence.format(location))


@given(sentences, st.sampled_from(["/data", "/my data/store-1", "s3://bucket", "s3://bucket/some/prefix"]))
def test_location_below_the_root_is_relative_to_it(sentence: str, root: str) -> None:
    location = Location.parse(root)
    below = sentence.format(f"{location.shown}/default/v1/head.json")
    assert without_locations(below, location) == sentence.format("default/v1/head.json")
    assert without_locations(sentence.format(location.shown), location) == sentence.format("the store")


def test_neighbour_of_the_root_is_no_part_of_it() -> None:
    message = without_locations("cannot read /data2/secret: gone", Location.parse("/data"))
    assert message == "cannot read (a location): gone"
    assert without_locations("cannot read /secret: gone", Location.parse("/")) == "cannot read (a location): gone"


@pytest.mark.parametrize("message", ["1 / 2 shards answered", "a/b and/or c", "no answer within 2 s", "", "80% // 3"])
def test_message_without_a_location_stays_as_it_is(message: str) -> None:
    assert without_locations(message, Location.parse("/data")) == message
