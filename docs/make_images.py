"""Draw docs/images/why.png: a photo, its box crop and its ellipse crop, twice.

The people are drawn; the faces are found and the crops are cut as `detect` does. It can be run from
any folder: python docs/make_images.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cropfirst.core.faces.crop import make_crop
from cropfirst.core.faces.select import select_face
from cropfirst.stage1_detect.config import CropConfig, DetectConfig
from cropfirst.stage1_detect.mtcnn.retry import RetryingDetector
from cropfirst.stage2_classify.drawn.portrait import Shot, draw_portrait, random_person

OUT = Path(__file__).resolve().parent / "images" / "why.png"
PHOTO, WIDTH, GAP, MARGIN = 252, 290, 36, 22
CROP = 256
COLUMNS = (
    ("The photo", "the room goes with the label"),
    ("Box crop", "its corners still show the room"),
    ("Ellipse crop (the default)", "the room is gone"),
)
INK, SOFT, MARK, PAPER = (35, 38, 45), (105, 110, 120), (226, 74, 51), (255, 255, 255)


@dataclass(frozen=True)
class Example:
    """A drawn photo, as one row of the picture."""

    seed: int
    kind: str
    gender: str
    age: int
    room: int


EXAMPLES = (Example(7, "mask1", "female", 24, 1), Example(8, "normal", "male", 66, 4))


def main() -> None:
    """Draw the picture and write it."""
    picture = draw_picture()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    picture.save(OUT, optimize=True)
    print(f"{OUT.name}: {picture.width} x {picture.height}, {OUT.stat().st_size / 1e3:.0f} kB")


def draw_picture() -> Image.Image:
    """Return the picture: titles, and a row for each example, in 256 colours."""
    detector = RetryingDetector(DetectConfig(engine="torch"))  # nothing to compile
    rows = [_row(example, detector) for example in EXAMPLES]
    width = 2 * MARGIN + 3 * WIDTH + 2 * GAP
    top = 74
    picture = Image.new("RGB", (width, top + sum(row.height + 20 for row in rows)), PAPER)
    draw = ImageDraw.Draw(picture)
    for index, (title, text) in enumerate(COLUMNS):
        centre = MARGIN + index * (WIDTH + GAP) + WIDTH // 2
        draw.text((centre, 14), title, fill=INK, font=ImageFont.load_default(23), anchor="ma")
        draw.text((centre, 44), text, fill=SOFT, font=ImageFont.load_default(16), anchor="ma")
    for row in rows:
        picture.paste(row, (MARGIN, top))
        top += row.height + 20
    # A third of the size, and no difference that an eye can see.
    return picture.quantize(256, dither=Image.Dither.NONE)


def _row(example: Example, detector: RetryingDetector) -> Image.Image:
    """Return the photo, the box crop and the ellipse crop of an example side by side."""
    rng = np.random.default_rng(example.seed)
    person = random_person(rng, name="x", gender=example.gender, age=example.age)
    photo = draw_portrait(person, Shot(example.kind, example.room), rng).image
    faces = detector.detect([photo])[0].faces
    index = select_face(faces, "largest", height=photo.shape[0], width=photo.shape[1])
    assert index is not None, "MTCNN finds the drawn faces"
    box, landmarks = faces.boxes[index], faces.landmarks[index]
    height = PHOTO * photo.shape[0] // photo.shape[1]
    row = Image.new("RGB", (3 * WIDTH + 2 * GAP, height), PAPER)
    row.paste(
        _with_box(photo, box).resize((PHOTO, height), Image.Resampling.LANCZOS),
        ((WIDTH - PHOTO) // 2, 0),
    )
    for column, background in ((1, "box"), (2, "ellipse")):
        config = CropConfig.model_validate({"background": background, "image_size": CROP})
        crop, _ = make_crop(photo, box, landmarks, config)
        tile = Image.fromarray(crop)
        if background == "box":
            _mark_corners(tile)
        x = column * (WIDTH + GAP) + (WIDTH - CROP) // 2
        row.paste(tile, (x, (height - CROP) // 2))
        _arrow(row, x_end=x - 12, y=height // 2, length=34)
    return row


def _with_box(photo: np.ndarray, box: np.ndarray) -> Image.Image:
    """Return the photo with its detected box."""
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    return Image.fromarray(cv2.rectangle(photo.copy(), (x0, y0), (x1, y1), (255, 255, 255), 3))


def _mark_corners(tile: Image.Image) -> None:
    """Circle the upper corners, in which the room is visible."""
    draw = ImageDraw.Draw(tile)
    radius, inset = 27, 30
    for x in (inset, tile.width - inset):
        circle = (x - radius, inset - radius, x + radius, inset + radius)
        draw.ellipse(circle, outline=MARK, width=4)


def _arrow(row: Image.Image, *, x_end: int, y: int, length: int) -> None:
    draw = ImageDraw.Draw(row)
    draw.line((x_end - length, y, x_end - 8, y), fill=SOFT, width=4)
    draw.polygon([(x_end - 12, y - 9), (x_end - 12, y + 9), (x_end, y)], fill=SOFT)


if __name__ == "__main__":
    main()
