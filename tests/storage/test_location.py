from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.storage import Location

ROOTS = ["/", "/data/store", "s3://bucket", "s3://bucket/a//b", "https://host", "https://host:8443/a%20b/"]
PARTS = st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda part: part not in {".", ".."}
)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
ANYTHING = st.text(st.sampled_from("ab./\\\0:?#%é "), max_size=12)


@given(st.sampled_from(ROOTS), NAMES)
def test_location_joins_are_undone_by_parent_and_name(text: str, name: str) -> None:
    root = Location.parse(text)
    below = root / name
    assert below.name == name.split("/")[-1]
    at = below
    for _ in name.split("/"):
        at = at.parent
    assert at / name == below
    assert (below.scheme, below.host, below.key[: len(root.key)]) == (root.scheme, root.host, root.key)


@given(st.sampled_from(ROOTS), NAMES)
def test_location_text_reads_back_to_an_equal_value(text: str, name: str) -> None:
    below = Location.parse(text) / name
    if below.scheme == "https" or below.key == below.key.rstrip("/"):
        assert Location.parse(str(below)) == below
    assert pickle.loads(pickle.dumps(below)) == below


@given(st.sampled_from(ROOTS), ANYTHING)
def test_location_of_a_name_from_a_stranger_is_below_or_refused(text: str, name: str) -> None:
    root = Location.parse(text)
    try:
        below = root / name
    except ValueError:
        parts = name.split("/")
        assert "\\" in name or "\0" in name or any(part in {"", ".", ".."} for part in parts)
        return
    assert (below.scheme, below.host, below.key[: len(root.key)]) == (root.scheme, root.host, root.key)
    if root.is_local:
        inside = os.path.normpath(below.path)
        assert inside == str(below.path)
        assert Path(inside).is_relative_to(root.path)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a\\b", "a\0b", "/"])
@pytest.mark.parametrize("text", ROOTS)
def test_location_refuses_names_that_could_leave_it(text: str, name: str) -> None:
    with pytest.raises(ValueError, match="not a name below"):
        Location.parse(text) / name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gs://bucket/a", "gs:// is not supported.*s3://bucket/prefix"),
        ("http://host/a", "http:// is not supported.*https://"),
        ("", "a local path"),
        ("a\0b", "a local path"),
        ("s3://", "not the name of a bucket"),
        ("s3:///key", "not the name of a bucket"),
        ("s3://Upper/key", "not the name of a bucket"),
        ("s3://ab/key", "not the name of a bucket"),
        ("s3://a..b/key", "not the name of a bucket"),
        ("s3://192.168.0.1/key", "not the name of a bucket"),
        ("s3://bucket/a/../b", r"'\.\.' as a part"),
        ("s3://bucket/" + "k" * 1025, "at most 1024 bytes"),
        ("s3:/bucket/key", "lost a slash"),
        ("https:/host/key", "lost a slash"),
        ("https://user:word@host/a", "user name or a password"),
        ("https://user@host/a", "user name or a password"),
        ("https:///a", "needs a host"),
        ("https://host:port/a", "valid host and port"),
        ("https://host/a\r\nHost: b", "control characters"),
        ("file://host/a", "another machine"),
    ],
)
def test_location_says_what_it_accepts(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        Location.parse(text)
    assert "word" not in str(caught.value).replace("password", "")


def test_location_of_a_relative_path_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Location.parse("a/b").path == tmp_path / "a/b"
    assert Location.parse(Path("a/../b")).path == tmp_path / "b"
    assert Location.parse("file:///a%20b").path == Path("/a b")
    assert Location.parse("s3://bucket/a/b/") == Location.parse("S3://bucket/a/b")


def test_location_of_an_object_has_no_path() -> None:
    with pytest.raises(ValueError, match="s3://bucket/key is not a local path"):
        _ = Location.parse("s3://bucket/key").path


def test_location_shows_no_signature() -> None:
    signed = Location.parse("https://host/photo.jpg?X-Amz-Signature=secret")
    assert str(signed) == "https://host/photo.jpg?X-Amz-Signature=secret"
    assert "secret" not in signed.shown
    assert "secret" not in repr(signed)
    with pytest.raises(ValueError, match="query") as caught:
        signed / "a"
    assert "secret" not in str(caught.value)
