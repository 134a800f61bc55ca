"""Draw the photos of tests/stage1_detect/mtcnn/fixtures, and write facenet-pytorch's faces of them.

Tests hold every engine to these faces, so that parity is tested without other photos and without
running facenet-pytorch. Run it from anywhere: python docs/make_parity_fixture.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import cv2
import facenet_pytorch
import numpy as np

from cropfirst.stage2_classify.drawn.portrait import Shot, draw_portrait, random_person

OUT = Path(__file__).resolve().parents[1] / "tests" / "stage1_detect" / "mtcnn" / "fixtures"
MIN_FACE_SIZE = 20


def main() -> None:
    """Write the photos and faces.json."""
    OUT.mkdir(exist_ok=True)
    detector = facenet_pytorch.MTCNN(keep_all=True, min_face_size=MIN_FACE_SIZE, device="cpu")
    faces = {}
    for name, photo in photos().items():
        cv2.imwrite(str(OUT / name), photo[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        found = detector.detect(photo, landmarks=True)
        if found[0] is None:
            found = np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))
        boxes, probs, landmarks = (np.asarray(part, np.float64) for part in found)
        faces[name] = {
            "boxes": boxes.round(4).tolist(),
            "probs": probs.round(6).tolist(),
            "landmarks": landmarks.round(4).tolist(),
        }
        print(f"{name}: {photo.shape[1]} x {photo.shape[0]}, {len(boxes)} faces")
    table = {
        "made_by": f"facenet-pytorch {version('facenet-pytorch')}",
        "min_face_size": MIN_FACE_SIZE,
        "photos": faces,
    }
    (OUT / "faces.json").write_text(json.dumps(table, indent=1) + "\n")


def photos() -> dict[str, np.ndarray]:
    """Return (H, W, 3) uint8 RGB photos of several sizes, by file name."""
    crowd = np.full((330, 500, 3), 90, np.uint8)
    for number, (x, y, width) in enumerate(
        [(0, 0, 150), (150, 0, 100), (250, 0, 75), (330, 0, 160), (150, 150, 135), (10, 210, 60)]
    ):
        some = portrait(number, size=(width, width * 4 // 3))[: crowd.shape[0] - y]
        crowd[y : y + some.shape[0], x : x + width] = some
    masked = portrait(21, kind="mask1", size=(210, 280))
    return {
        "bare.png": portrait(20, size=(180, 240)),
        "masked.png": masked[:, 10:],
        "wrongly_worn.png": portrait(22, kind="incorrect_mask", size=(150, 200)),
        "small.png": portrait(23, size=(97, 129)),
        "cut_off.png": portrait(24, size=(180, 240))[45:, 62:],
        "crowd.png": crowd,
        "nobody.png": portrait(25, size=(200, 260))[200:],
    }


def portrait(seed: int, *, size: tuple[int, int], kind: str = "normal") -> np.ndarray:
    """Draw a person; equal arguments give equal pixels."""
    rng = np.random.default_rng(seed)
    gender, age = ("female", "male")[seed % 2], 20 + seed * 7 % 50
    person = random_person(rng, name="x", gender=gender, age=age)
    return draw_portrait(person, Shot(kind, seed % 6), rng, size).image


if __name__ == "__main__":
    main()
