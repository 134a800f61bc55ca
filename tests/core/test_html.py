"""Pages escape what they are given, and a value that a template lacks is an error."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from cropfirst.core.html import jpeg_uri, render_page

EVIL = '</script><script>alert("1")</script>'


def test_values_are_escaped_in_text_attributes_and_scripts(tmp_path: Path) -> None:
    template = tmp_path / "page.html"
    template.write_text(
        '{% extends "base.html" %}{% block body %}<p id="{{ evil }}">{{ evil }}</p>'
        "<script>const data = {{ data|tojson }}</script>{% endblock %}"
    )
    page = render_page(template, title=EVIL, evil=EVIL, data={"name": EVIL})
    assert page.count("<script") == page.count("</script") == 1 and 'alert("' not in page
    assert page.startswith("<!doctype html>") and "&lt;/script&gt;" in page
    with pytest.raises(UndefinedError, match="evil"):
        render_page(template, title="")


def test_a_picture_inside_the_page_has_the_size_that_is_asked_for() -> None:
    red = np.full((30, 50, 3), (200, 20, 20), np.uint8)
    for side, size in ((None, (50, 30)), (16, (16, 16))):
        kind, _, data = jpeg_uri(red, side=side).partition(",")
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert kind == "data:image/jpeg;base64" and image.size == size
        assert np.abs(np.array(image).astype(int) - (200, 20, 20)).max() < 8
