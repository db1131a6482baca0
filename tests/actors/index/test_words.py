"""What a word is, against a loop over characters."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.words import plain_words

from lookalike.actors.index import words
from lookalike.actors.index.words import fold_pieces, folded, words_of

# Characters that normalisation, case or joining treat in an own way, and any other.
ODD = (
    "aAzZ09_-\n\t\0 =<>äÄßẞİıſﬁΣςσͅͅǅÅ½①²"
    "\u0301\u0308\u0338\u0345\u00ad\u200b\u200d\ufe0f\u20e3‿❤漢字가\u1100\u1161\u11a8हिन्दी㍿ﷺ"
)
TEXTS = st.text(st.sampled_from(ODD) | st.characters(exclude_categories=()), max_size=30)
PIECES = st.text(
    st.characters(min_codepoint=0x80, exclude_categories=["Cs"]) | st.sampled_from("abcXYZ123"), min_size=1
)


@given(TEXTS)
def test_words_of_are_those_found_character_by_character(text: str) -> None:
    assert list(words_of(text)) == list(dict.fromkeys(plain_words(text)))


@given(TEXTS)
def test_words_of_do_not_depend_on_normalisation(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert words_of(unicodedata.normalize(form, text)) == words_of(text)


@given(st.text("aé\u0301\u0323\u0345\u200d ", min_size=40).map(lambda text: text * 5))
def test_words_of_texts_with_many_marks(text: str) -> None:
    assert list(words_of(text)) == list(dict.fromkeys(plain_words(text)))


@given(TEXTS)
def test_words_of_words_are_the_same(text: str) -> None:
    words = words_of(text)
    assert words_of(" ".join(words)) == words
    assert words_of(" ".join(words).title()) == words or not text.isascii()


@given(st.lists(PIECES, min_size=1, max_size=8))
def test_fold_pieces_folds_each_by_itself(pieces: list[str]) -> None:
    lines = fold_pieces("\n".join(pieces).encode()).decode().split("\n")
    assert [line.split() for line in lines] == [plain_words(piece) for piece in pieces]


@given(st.binary(max_size=20))
def test_fold_pieces_takes_bytes_that_are_no_text(piece: bytes) -> None:
    assert fold_pieces(piece).count(b"\n") == piece.count(b"\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Größe GRÖSSE gro\u0308ße", ["grösse"]),
        ("foo_bar/7-8", ["foo", "bar", "7", "8"]),
        ("don't", ["don", "t"]),
        ("Schrank\u00adwand", ["schrankwand"]),
        ("ﬁt ㎏ ½", ["fit", "kg", "1", "2"]),
        ("İstanbul", ["i\u0307stanbul"]),
        ("हिन्दी", ["हिन्दी"]),
        ("红色外套", ["红色外套"]),
        ("🧥 ‿ ̈ _ …", []),
        ("", []),
        ("a\ufdfab", ["a", "b"]),
        ("o" + "\u0323" * 70, ["ọ" + "\u0323" * 63]),
    ],
)
def test_words_of_examples(text: str, expected: list[str]) -> None:
    assert list(words_of(text)) == expected


def test_folded_knows_every_letter_digit_and_mark() -> None:
    for code in range(sys.maxunicode + 1):
        kind = unicodedata.category(chr(code))[0]
        assert chr(code).isalnum() == (kind in "LN")
        if kind == "M":
            assert code in words._MARKS_WITHIN or words._IGNORED.match(chr(code))


def test_folded_of_ascii_is_as_of_any_text() -> None:
    ascii_text = "".join(map(chr, range(128)))
    assert folded(ascii_text).split() == folded(f"{ascii_text} é").split()[:-1]
