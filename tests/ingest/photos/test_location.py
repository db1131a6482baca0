"""Where a photo is said to be: normal forms, and what may be shown of a text from a stranger."""

from __future__ import annotations

import posixpath
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.ingest.photos.location import is_url, normal_photo, printable, shown_photo

PARTS = st.sampled_from(["a.jpg", "..", ".", "", "ä b", "s3:", "https:", "file:", "bucket.name", "u:p@h", "?q=1", "\n"])
PHOTOS = st.lists(PARTS, max_size=6).map("/".join) | st.text(max_size=12)


@given(PHOTOS)
def test_normal_photo_is_its_own_normal_form_and_stays_below_the_root(photo: str) -> None:
    try:
        normal = normal_photo(photo)
    except ValueError:
        return
    assert normal_photo(normal) == normal
    assert is_url(normal) == is_url(photo)
    assert is_url(normal) or posixpath.normpath(normal) == normal
    assert not normal.startswith(("/", "../"))


@pytest.mark.parametrize("scheme", ["https", "s3", "HTTPS"])
@given(user=st.text("abc:", min_size=1, max_size=6), query=st.text("abc=&", min_size=1, max_size=6))
def test_shown_photo_holds_neither_password_nor_query(scheme: str, user: str, query: str) -> None:
    assert shown_photo(f"{scheme}://{user}@host/x.jpg?{query}") == f"{scheme}://host/x.jpg"
    assert shown_photo(f"x/{user}@host/x.jpg?{query}") == f"x/{user}@host/x.jpg?{query}"


@given(st.text(max_size=30) | st.text(st.characters(categories=["Cs", "Cc", "Zl"]), max_size=5))
def test_printable_is_utf8_without_control_characters(text: str) -> None:
    shown = printable(text)
    assert shown.encode().decode() == shown
    assert not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in shown)
    if text.isprintable() and text.isascii():
        assert shown == text
