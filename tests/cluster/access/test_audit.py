"""The record of writes: a line each, that nobody can fake."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from lookalike.cluster.access import audit
from lookalike.storage import Location


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    audit.start_audit(Location.parse(tmp_path / "audit.log"))
    yield tmp_path / "audit.log"
    for handler in list(audit.logger.handlers):
        audit.logger.removeHandler(handler)
        handler.close()


async def _reads_all_and_answers(_: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _is_cancelled(_: Scope, receive: Receive, __: Send) -> None:
    await receive()
    raise asyncio.CancelledError


def write(
    path: str,
    app: Any = _reads_all_and_answers,
    key: str | None = "shop",
    body: tuple[bytes, ...] = (),
    on_answer: Callable[[], None] | None = None,
) -> None:
    parts = [*body, b""]
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(_: Message) -> None:
        if on_answer is not None:
            on_answer()

    scope = {"type": "http", "method": "PUT", "path": path}
    asyncio.run(audit.audited(app, scope, receive, send, key))


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_audit_has_a_line_for_each_write(log: Path) -> None:
    write("/v1/collections/shoes/images/220/1", body=(b"abc", b"defg"))
    write("/v1/collections/shoes/images/220/1", key=None)
    one, other = lines(log)
    assert one.pop("time").endswith("+00:00")
    assert one == {
        "key": "shop",
        "method": "PUT",
        "collection": "shoes",
        "image_id": "220/1",
        "status": 200,
        "bytes": 7,
    }
    assert (other["key"], other["bytes"]) == (None, 0)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_audit_line_is_there_before_the_client_hears_of_the_write(log: Path) -> None:
    seen: list[int] = []
    write("/v1/collections/shoes/images/1", on_answer=lambda: seen.append(len(lines(log))))
    assert seen == [1, 1]


def test_audit_has_a_line_for_a_write_whose_client_went_away(log: Path) -> None:
    with pytest.raises(asyncio.CancelledError):
        write("/v1/collections/shoes/images/1", _is_cancelled)
    assert [line["status"] for line in lines(log)] == [None]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=()), min_size=1))
def test_audit_line_holds_whatever_an_id_holds_and_is_one(log: Path, image_id: str) -> None:
    before = log.read_bytes() if log.exists() else b""
    write(f"/v1/collections/default/images/{image_id}")
    added = log.read_bytes()[len(before) :]
    assert added.isascii()
    assert added.count(b"\n") == 1
    assert all(byte >= 32 for byte in added[:-1])
    assert json.loads(added)["image_id"] == image_id


def test_audit_goes_on_in_a_new_file_after_the_log_was_rotated(log: Path, tmp_path: Path) -> None:
    write("/v1/collections/default/images/1")
    log.rename(tmp_path / "audit.log.1")
    write("/v1/collections/default/images/2")
    assert [line["image_id"] for line in lines(log)] == ["2"]
    assert [line["image_id"] for line in lines(tmp_path / "audit.log.1")] == ["1"]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_audit_that_cannot_be_written_stops_no_write(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_open_before in (False, True):
        if is_open_before:
            write("/v1/collections/default/images/0")
            log.unlink()
        log.mkdir()
        write("/v1/collections/default/images/1")
        assert "Logging error" in capsys.readouterr().err
        log.rmdir()
    write("/v1/collections/default/images/2")
    assert [line["image_id"] for line in lines(log)] == ["2"]
