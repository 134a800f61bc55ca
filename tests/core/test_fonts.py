"""Class names in other scripts: drawn in a font that has them, or as numbers, never as boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropfirst.core import fonts
from cropfirst.core.charts import new_figure, show_letters, write_png
from cropfirst.core.fonts import find_font, missing_letters
from cropfirst.core.sheet import SheetTile, load_font, write_sheet

KOREAN = ("\ub9c8\uc2a4\ud06c", "\uc815\uc0c1")


@pytest.fixture
def without_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose only font is matplotlib's own."""
    monkeypatch.setattr(fonts, "_font_files", lambda: (fonts._own_font(),))
    fonts._find_font.cache_clear()
    yield
    fonts._find_font.cache_clear()


def chart() -> object:
    figure = new_figure(3, 3)
    axes = figure.add_subplot()
    axes.imshow(np.eye(2))
    axes.set_xticks([0, 1], KOREAN)
    axes.set_title(f"mask {KOREAN[0]}")
    return figure


def test_letters_that_the_own_font_lacks() -> None:
    assert missing_letters("mask \u00e9 >= 60 \u2026") == ""
    assert missing_letters(f"a{KOREAN[1]}a") == "".join(sorted(KOREAN[1]))


def test_a_chart_is_drawn_in_a_font_that_has_the_letters(tmp_path: Path) -> None:
    if find_font("".join(KOREAN)) is None:
        pytest.skip("no font with Korean letters is installed (fonts-nanum, fonts-noto-cjk)")
    write_png(tmp_path / "chart.png", chart())  # a letter without a glyph would be a warning
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.size == (330, 330)


def test_a_chart_shows_numbers_where_no_font_has_the_letters(
    without_fonts: None, tmp_path: Path
) -> None:
    figure = chart()
    show_letters(figure)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["0", "1"]
    assert figure.axes[0].get_title() == "mask ???"
    assert "no font has their letters" in figure.get_supxlabel()
    write_png(tmp_path / "chart.png", figure)


def test_a_sheet_is_drawn_in_a_font_that_has_the_letters(tmp_path: Path) -> None:
    if find_font("".join(KOREAN)) is None:
        pytest.skip("no font with Korean letters is installed (fonts-nanum, fonts-noto-cjk)")
    one, other = (load_font(20, KOREAN[0]).getmask(letter) for letter in KOREAN[0][:2])
    assert bytes(one) != bytes(other), "two letters look different: they are no boxes"
    tile = SheetTile(np.zeros((8, 8, 3), np.uint8), KOREAN[0], KOREAN[1])
    write_sheet([tile], tmp_path / "sheet.png", "title")


def test_a_sheet_shows_question_marks_where_no_font_has_the_letters(
    without_fonts: None, tmp_path: Path
) -> None:
    black = np.zeros((8, 8, 3), np.uint8)
    write_sheet([SheetTile(black, "??")], tmp_path / "wanted.png", "t")
    write_sheet([SheetTile(black, KOREAN[1])], tmp_path / "sheet.png", "t")
    assert (tmp_path / "sheet.png").read_bytes() == (tmp_path / "wanted.png").read_bytes()
