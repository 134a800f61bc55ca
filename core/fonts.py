"""Fonts that have the letters of a text, such as Korean class names.

matplotlib and Pillow bring a font for European languages only. Fonts of the system are searched for
one that has the missing letters. Knows letters; knows nothing of what is written with them.
"""

from __future__ import annotations

import warnings
from collections.abc import Set
from functools import cache
from pathlib import Path

PREFERRED = (
    "NotoSansCJK", "NotoSansKR", "NotoSans", "NanumGothic", "SourceHanSans", "Malgun",
    "AppleSDGothic", "UnDotum", "WenQuanYi", "wqy", "ipag", "TakaoGothic", "msyh",
    "YuGoth", "simsun",
)  # fmt: skip
"""Beginnings of the file names of fonts that are tried first."""
HOW_TO_INSTALL = "install a font that has them, such as the package fonts-noto-cjk"


def find_font(text: str) -> Path | None:
    """Return a font file that has all letters of `text`; None where none is installed.

    matplotlib's own font is the first choice, then `PREFERRED`, then any other.
    """
    letters = frozenset(letter for letter in text if not letter.isspace())
    return _find_font(letters)


def missing_letters(text: str) -> str:
    """Return the letters of `text` that matplotlib's own font does not have, each once, sorted."""
    letters = {letter for letter in text if not letter.isspace()}
    return "".join(sorted(x for x in letters if ord(x) not in _letters_of(_own_font())))


@cache
def _own_font() -> Path:
    from matplotlib import get_data_path

    return Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


@cache
def _find_font(letters: frozenset[str]) -> Path | None:
    wanted = {ord(letter) for letter in letters}
    return next((path for path in _font_files() if wanted <= _letters_of(path)), None)


@cache
def _font_files() -> tuple[Path, ...]:
    from matplotlib import font_manager

    found = sorted(map(Path, font_manager.findSystemFonts()))

    def rank(path: Path) -> tuple[int, bool, str]:
        place = [path.name.startswith(name) for name in PREFERRED]
        # Of one family the plain style comes first.
        plain = path.stem.endswith("Regular") or "-" not in path.stem
        return (place.index(True) if any(place) else len(place), not plain, path.name)

    return (_own_font(), *sorted(found, key=rank))


@cache
def _letters_of(path: Path) -> Set[int]:
    from matplotlib.ft2font import FT2Font

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return FT2Font(str(path)).get_charmap().keys()
    except (OSError, RuntimeError):  # not a font that FreeType reads
        return frozenset()
