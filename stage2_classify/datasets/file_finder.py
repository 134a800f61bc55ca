"""Find the file that a table names, also where the name on disk is spelt in another form."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from cropfirst.core.text import normal_form


class FileFinder:
    """The files below a folder, by the names that a table gives them.

    A name that is there is taken as it is. Otherwise it may differ in Unicode form (a Mac writes
    decomposed names) and, where only one name on disk matches, in case (`.JPG` for `.jpg`).
    Each folder is read once.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names = cache(self._read_names)
        self._forms = cache(self._read_forms)

    def find(self, key: str) -> str | None:
        """Return the path on disk of `key`, relative to the root; None where there is no file."""
        folder, _, name = key.rpartition("/")
        if name in self._names(folder):
            return key
        found = ""
        for part in key.split("/"):
            matching = self._match(found, part)
            if matching is None:
                return None
            found = f"{found}/{matching}" if found else matching
        return found

    def _match(self, folder: str, name: str) -> str | None:
        if name in self._names(folder):
            return name
        for form in _FORMS:
            names = self._forms(folder, form).get(form(name), [])
            if len(names) == 1:
                return names[0]
        return None

    def _read_names(self, folder: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self.root / folder))
        except OSError:
            return frozenset()

    def _read_forms(self, folder: str, form: Callable[[str], str]) -> dict[str, list[str]]:
        forms: dict[str, list[str]] = {}
        for name in sorted(self._names(folder)):
            forms.setdefault(form(name), []).append(name)
        return forms


def _without_case(name: str) -> str:
    return normal_form(name).casefold()


_FORMS: tuple[Callable[[str], str], ...] = (normal_form, _without_case)
"""In the order in which they are tried."""
