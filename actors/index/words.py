"""What a word is: one definition for the texts of rows and for what a filter asks for.

A text is brought to NFKC without regard to case (the standard's NFKC_Casefold, but for the zero width space, which
separates words): ``Größe`` and ``GRÖSSE`` become ``grösse``, whether ö is one character or two. A word is then a letter
or digit with all letters, digits and marks that follow it; everything else separates words, ``_`` included.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final

from lookalike.kernels.word_index import MAX_WORD_BYTES

# Characters that show nothing (Default_Ignorable_Code_Point), such as the soft hyphen and the joiners of Persian and
# emoji: a word with them is the same word. U+200B is left out of the list.
_IGNORED: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Whole sentences in one character, up to 18 for one: they separate words, so that no text grows more than six times.
_SENTENCES: Final = "\ufdfa\ufdfb"
# Bringing marks in order takes the square of their number: seconds for a description of nothing but marks.
_MAX_MARKS: Final = 64
# Where marks are, beside ignored ones.
_MARKS_WITHIN: Final = range(0x300, 0x20000)
_NO_ASCII_WORD: Final = re.compile(r"[^0-9a-z\n]")


def folded(text: str) -> str:
    """The words of a text in their order, with spaces between them; a line break stays where it was."""
    if text.isascii():
        return _NO_ASCII_WORD.sub(" ", text.lower())
    no_word, no_beginning, many_marks = _separators()
    text = _IGNORED.sub("", text)
    for sentence in _SENTENCES:
        text = text.replace(sentence, " ")
    text = unicodedata.normalize("NFD", many_marks.sub(r"\1", text))
    for _ in range(2):  # what NFKC makes of a character can have another case, so once is not enough
        text = unicodedata.normalize("NFKC", text.casefold())
    return no_beginning.sub("", no_word.sub(" ", text))


def fold_pieces(pieces: bytes) -> bytes:
    """``folded`` for UTF-8."""
    return folded(pieces.decode("utf-8", "replace")).encode()


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, each once."""
    return tuple(dict.fromkeys(folded(text).split()))


def prefix_of(word: str) -> bytes:
    """A word as the index has it: UTF-8, of which the first ``MAX_WORD_BYTES`` count."""
    return word.encode()[:MAX_WORD_BYTES]


@cache
def _separators() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """What is no part of a word, marks that follow none, and too many marks. Made when first needed, in 20 ms."""
    marks: list[list[int]] = []
    for code in _MARKS_WITHIN:
        if unicodedata.category(chr(code)).startswith("M"):
            if marks and marks[-1][1] == code - 1:
                marks[-1][1] = code
            else:
                marks.append([code, code])
    ranges = "".join(f"{chr(first)}-{chr(last)}" for first, last in marks)
    return (
        re.compile(rf"[^\w{ranges}\n]|_"),
        re.compile(rf"(?<![^ \n])[{ranges}]+"),
        re.compile(rf"([{ranges}]{{{_MAX_MARKS}}})[{ranges}]+"),
    )
