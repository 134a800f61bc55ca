"""Text as it is compared (composed Unicode, the words for "no value"), and numbers of things."""

from __future__ import annotations

import unicodedata

MISSING = frozenset(("", "nan", "na", "n/a", "#n/a", "<na>", "null"))
"""Words, case folded, that mean that a value is not known. `none` is not among them: it may be a
class."""


def normal_form(text: str) -> str:
    """Return `text` in Unicode's composed form (NFC) without outer blanks.

    A Mac writes file names decomposed (NFD), most other systems composed: the two forms look the
    same and are different strings.
    """
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).strip()


def is_missing(text: str) -> bool:
    """Return whether a cell of a table means that its value is not known."""
    return normal_form(text).casefold() in MISSING


def count_of(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, as in "1 face" and "2 faces".

    Args:
        plural: the noun for any number but 1; "" = with an s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
