"""The words of a text, character by character: what the index must hold."""

from __future__ import annotations

import unicodedata

# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties, less U+200B.
_IGNORABLE = """00AD 034F 061C 115F..1160 17B4..17B5 180B..180F 200C..200F 202A..202E 2060..206F 3164 FE00..FE0F FEFF
FFA0 FFF0..FFF8 1BCA0..1BCA3 1D173..1D17A E0000..E0FFF"""
_IGNORED = {
    chr(code)
    for first, _, last in (entry.partition("..") for entry in _IGNORABLE.split())
    for code in range(int(first, 16), int(last or first, 16) + 1)
}


def plain_words(text: str) -> list[str]:
    kept = ""
    marks = 0
    for character in text:
        if character not in _IGNORED:
            marks = marks + 1 if unicodedata.category(character)[0] == "M" else 0
            if marks <= 64:
                kept += " " if character in "\ufdfa\ufdfb" else character
    text = unicodedata.normalize("NFD", kept)
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text.casefold())
    words = [""]
    for character in text:
        kind = unicodedata.category(character)[0]
        if kind in "LN" or (kind == "M" and words[-1]):
            words[-1] += character
        elif words[-1]:
            words.append("")
    return [word for word in words if word]


def indexed_words(text: str) -> set[bytes]:
    """Of a longer word its first 256 bytes count."""
    return {word.encode()[:256] for word in plain_words(text)}
