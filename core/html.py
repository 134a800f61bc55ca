"""HTML pages that need no other file, from jinja2 templates, with everything escaped by default.

Knows templates and pictures; knows nothing of what a page shows.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

JPEG_QUALITY = 82


def render_page(template: Path, **values: Any) -> str:
    """Return the page that a template makes of some values.

    The template may extend `base.html`, which holds the colours and tables that all pages share.
    Everything that is not `markupsafe.Markup` is escaped; a value that is missing is an error.

    Args:
        template: the file of the template.
        values: what the template names.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(values)


def jpeg_uri(
    image: npt.NDArray[np.uint8], *, side: int | None = None, quality: int = JPEG_QUALITY
) -> str:
    """Return a picture as a JPEG data URI.

    Args:
        image: (H, W, 3) uint8 RGB.
        side: resize the picture to a square of so many pixels; None keeps its size.
        quality: JPEG quality, 1 to 95.
    """
    from PIL import Image

    picture = Image.fromarray(image)
    if side is not None:
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    raw = io.BytesIO()
    picture.save(raw, format="JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(raw.getvalue()).decode()}"
