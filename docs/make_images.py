"""Draw docs/images/why.png: a photo, its box crop and its ellipse crop, twice.

The people are drawn, the face is found by stage 1 and the crops are cut as `detect` cuts them.
Run it from anywhere: python docs/make_images.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cropfirst.stage1_detect.config import CropConfig, DetectConfig
from cropfirst.stage1_detect.crops.crop import make_crop
from cropfirst.stage1_detect.mtcnn.retry import RetryingDetector
from cropfirst.stage1_detect.mtcnn.select import select_face
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
class Scene:
    """One drawn photo."""

    seed: int
    kind: str
    gender: str
    age: int
    room: int


SCENES = (Scene(7, "mask1", "female", 24, 1), Scene(8, "normal", "male", 66, 4))


def main() -> None:
    """Write the picture."""
    finder = RetryingDetector(DetectConfig())
    rows = [_row(scene, finder) for scene in SCENES]
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
    OUT.parent.mkdir(parents=True, exist_ok=True)
    # 256 colours: a third of the size, and no difference that an eye can see.
    picture.quantize(256, dither=Image.Dither.NONE).save(OUT, optimize=True)
    print(f"{OUT.name}: {picture.width} x {picture.height}, {OUT.stat().st_size / 1e3:.0f} kB")


def _row(scene: Scene, finder: RetryingDetector) -> Image.Image:
    """Photo, box crop and ellipse crop of one scene, side by side."""
    rng = np.random.default_rng(scene.seed)
    person = random_person(rng, name="x", gender=scene.gender, age=scene.age)
    photo = draw_portrait(person, Shot(scene.kind, scene.room), rng).image
    faces = finder.detect([photo])[0].faces
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
    """The photo with its detected box."""
    x0, y0, x1, y1 = (round(float(value)) for value in box)
    return Image.fromarray(cv2.rectangle(photo.copy(), (x0, y0), (x1, y1), (255, 255, 255), 3))


def _mark_corners(tile: Image.Image) -> None:
    """Circle the upper corners, where the room looks through."""
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
