"""Typed reading of JSON that somebody else wrote: the value that was wanted, or an error.

Knows JSON; knows nothing of what a value means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from cropfirst.core.errors import BundleError

MAX_ITEMS = 10_000
"""Largest number of entries in one list or object."""


class Entry:
    """A JSON object, and its place in the file for messages."""

    def __init__(self, data: Any, where: str) -> None:
        """Check that `data` is an object of a moderate size.

        Raises:
            BundleError: it is not.
        """
        if not isinstance(data, Mapping) or len(data) > MAX_ITEMS:
            raise BundleError(f"{where}: wanted an object, got {_shown(data)}")
        self._data, self._where = data, where

    @property
    def names(self) -> list[str]:
        """Names of the values."""
        return list(self._data)

    def value(self, name: str) -> Any:
        """Return any value.

        Raises:
            BundleError: there is none; also by all methods below, where it is not as asked.
        """
        if name not in self._data:
            raise BundleError(f"{self._where} has no {name!r}: copy the bundle again, or export it")
        return self._data[name]

    def text(self, name: str) -> str:
        """Return a text that is not empty."""
        value = self.value(name)
        if not isinstance(value, str) or not value:
            self._refuse(name, "a text")
        return value

    def one_of(self, name: str, choices: Sequence[str]) -> str:
        """Return one of some texts."""
        value = self.text(name)
        if value not in choices:
            self._refuse(name, f"one of {', '.join(choices)}")
        return value

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self.value(name)
        if not isinstance(value, bool):
            self._refuse(name, "true or false")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """Return a number in [low, high]."""
        value = self.value(name)
        if not _is_number(value, low, high):
            self._refuse(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, name: str, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        value = self.value(name)
        if not isinstance(value, int) or not _is_number(value, low, high):
            self._refuse(name, f"a whole number from {low} to {high}")
        return value

    def numbers(
        self, name: str, low: float, high: float, *, count: int | None = None
    ) -> tuple[float, ...]:
        """Return numbers in [low, high]; `count` of them where it is given."""
        values = self._list(name)
        if not all(_is_number(each, low, high) for each in values):
            self._refuse(name, f"numbers from {low:g} to {high:g}")
        if count is not None and len(values) != count:
            self._refuse(name, f"{count} numbers")
        return tuple(float(each) for each in values)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return different texts, at least one."""
        values = self._list(name)
        if not values or not all(isinstance(each, str) for each in values):
            self._refuse(name, "a list of texts")
        if len(set(values)) < len(values):
            self._refuse(name, "different texts")
        return tuple(values)

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object as it is."""
        return dict(Entry(self.value(name), f"{self._where}, {name}")._data)

    def entry(self, name: str) -> Entry:
        """Return an object."""
        return Entry(self.value(name), f"{self._where}, {name}")

    def entries(self, name: str) -> dict[str, Entry]:
        """Return an object of objects."""
        inner = self.entry(name)
        return {each: inner.entry(each) for each in inner.names}

    def list_of(self, name: str, *, most: int = 100) -> list[Entry]:
        """Return a list of at most `most` objects."""
        values = self._list(name)
        if len(values) > most:
            self._refuse(name, f"at most {most} objects")
        return [Entry(each, f"{self._where}, {name} {at}") for at, each in enumerate(values)]

    def _list(self, name: str) -> list[Any]:
        value = self.value(name)
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            self._refuse(name, "a list")
        return value

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        got = _shown(self._data[name])
        raise BundleError(f"{self._where}: {name} is {got}, wanted {wanted}")


def _is_number(value: Any, low: float, high: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and low <= value <= high


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
