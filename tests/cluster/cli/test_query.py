"""The commands for a running server: what they print, and what they send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support.replies import Replies, replying

from lookalike.actors.query.query import MAX_COUNT
from lookalike.cluster.cli.main import main
from lookalike.cluster.cli.query import bits, percent
from lookalike.cluster.http.multipart import PartsReader

ANSWER = {
    "query_id": "q",
    "count": 2,
    "took_ms": 1.5,
    "shards_answered": 2,
    "shards_total": 2,
    "hits": [
        {"image_id": "a/1", "group": "Shirts", "distance": 0.0, "similarity": 1.0},
        {"image_id": "b", "group": "", "distance": 460.25, "similarity": 0.85996},
    ],
}
SHARD = {"kernel_variant": "avx2", "last_error": ""}
STATUS = {
    "version": "1",
    "ready": True,
    "collections": [
        {"name": "default", "model": "m-1", "rows": 7, "shards": [SHARD, SHARD | {"last_error": "bucket 3 is damaged"}]}
    ],
}


def test_search_takes_as_many_hits_as_the_server(server: Replies) -> None:
    server.answer(ANSWER)
    assert CliRunner().invoke(main, ["search", "a/1", "--count", f"{MAX_COUNT}", "--url", server.url]).exit_code == 0
    assert CliRunner().invoke(main, ["search", "a/1", "--count", f"{MAX_COUNT + 1}"]).exit_code == 2


@pytest.fixture
def server() -> Iterator[Replies]:
    with replying() as replies:
        yield replies


@given(st.integers(0, 100_000_000))
def test_bits_are_read_back_exactly(hundredths: int) -> None:
    text = bits(hundredths / 100)
    assert float(text) == hundredths / 100
    assert not text.endswith((".", ".0", ".00"))


@given(st.floats(0, 1))
def test_percent_is_100_only_for_the_same_descriptor(similarity: float) -> None:
    assert (percent(similarity) == "100.0%") == (similarity == 1)
    assert -1e-9 <= similarity * 100 - float(percent(similarity).removesuffix("%")) < 0.1 + 1e-9


def test_search_prints_similarity_distance_image_and_group(server: Replies) -> None:
    server.answer(ANSWER)
    result = CliRunner().invoke(main, ["search", "a//1", "--url", server.url, "--count", "3"])
    assert result.stdout.splitlines() == [
        "similarity  distance  image  group",
        "100.0%      0         a/1    Shirts",
        "85.9%       460.25    b",
    ]
    assert json.loads(server.received[0].body) == {"image_id": "a//1", "count": 3}


def test_search_sends_a_file_as_a_photo(server: Replies, tmp_path: Path) -> None:
    server.answer(ANSWER)
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"\x89PNG\r\n\x1a\n...")
    result = CliRunner().invoke(main, ["search", str(photo), "--url", server.url, "--collection", "shoes", "--json"])
    assert json.loads(result.stdout) == ANSWER
    received = server.received[0]
    assert received.path == "/v1/collections/shoes/search"
    reader = PartsReader(received.media_type or "", ("image", "query"))
    reader.feed(received.body)
    assert reader.finish() == {"image": photo.read_bytes(), "query": b'{"count": 10}'}


def test_search_says_when_an_answer_is_partial(server: Replies) -> None:
    server.answer(ANSWER | {"shards_answered": 1})
    result = CliRunner().invoke(main, ["search", "a", "--url", server.url])
    assert (result.exit_code, result.stderr) == (0, "only 1 of 2 shards answered\n")


def test_status_prints_collections_and_the_last_errors_of_shards(server: Replies) -> None:
    server.answer(STATUS)
    result = CliRunner().invoke(main, ["status"], env={"LOOKALIKE_URL": server.url})
    assert result.stdout.splitlines() == [
        "collection  model  images  shards  kernel variant",
        "default     m-1    7       2       avx2",
    ]
    assert result.stderr == "default, shard 1: bucket 3 is damaged\n"


def test_query_commands_fail_with_the_servers_message(server: Replies) -> None:
    server.answer({"error": {"code": "unknown_image", "message": "no image has the id x", "field": None}}, 404)
    result = CliRunner().invoke(main, ["search", "x", "--url", server.url])
    assert (result.exit_code, result.stderr) == (1, "Error: no image has the id x\n")


def test_query_commands_send_the_key_of_the_option_or_of_the_environment(server: Replies) -> None:
    server.answer(STATUS)
    for arguments, environment, sent in (
        (["--key", "lk_1"], {"LOOKALIKE_API_KEY": "lk_2"}, "Bearer lk_1"),
        ([], {"LOOKALIKE_API_KEY": "lk_2"}, "Bearer lk_2"),
        ([], {"LOOKALIKE_API_KEY": ""}, None),
    ):
        result = CliRunner().invoke(main, ["status", "--url", server.url, *arguments], env=environment)
        assert result.exit_code == 0, result.output
        assert server.received[-1].authorization == sent
