"""The page computes the same pixels, faces and tracks as Python, in a real browser."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import Chromium, Page
from drawn_bundle import CROP
from drawn_clip import SEED, draw_person

from cropfirst.core.faces.boxes import iou
from cropfirst.core.faces.crop import make_crop
from cropfirst.core.faces.quality import sharpness, turn
from cropfirst.door import Bundle
from cropfirst.door.area import IntegralImage
from cropfirst.door.files import load_detector, read_files, read_manifest
from cropfirst.door.manifest import DETECTOR_FILES, LOCALISER_FILE

pytestmark = pytest.mark.slow

TRACES = sorted((Path(__file__).parents[1] / "traces").glob("*.json"))
CROPS = {
    "ellipse": CROP,
    "box": replace(CROP, background="box"),
    "aligned": replace(CROP, align=True, background="box"),
    "wide": replace(CROP, margin=1.5, image_size=100),
    "halved": replace(CROP, background="box", margin=0.0, image_size=114),
    "to the border": replace(CROP, margin=0.0),
    "enlarged": replace(CROP, background="box", image_size=224),
}
_HELPERS = """
const toBase64 = (bytes) => {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return btoa(text);
};
const fromPng = async (text) => {
  const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
};
"""


@pytest.fixture(scope="module")
def page(chromium: Chromium, address: str) -> Page:
    page = chromium.open(address)
    page.wait("document.body?.dataset.ready")
    return page


@pytest.fixture(scope="module")
def photos() -> dict[str, np.ndarray]:
    two = [draw_person(SEED + i, kind, (300, 400)) for i, kind in enumerate(("mask1", "normal"))]
    worn = draw_person(SEED, "mask1")
    return {
        "worn": worn,
        "wrong": draw_person(SEED, "incorrect_mask"),
        "bare": draw_person(SEED + 1, "normal"),
        "two": np.hstack(two),
        "cut off": worn[:, 250:],
        "half": worn[:260],
        "small": cv2.resize(worn, (160, 120), interpolation=cv2.INTER_AREA),
        "nobody": np.full((200, 300, 3), 128, np.uint8),
    }


def in_page(page: Page, photo: np.ndarray, code: str, **values: Any) -> Any:
    """Run code that sees `photo` as the page's modules do; return its value."""
    png = base64.b64encode(cv2.imencode(".png", photo[..., ::-1])[1].tobytes()).decode()
    names = "".join(f"const {name} = {json.dumps(each)};" for name, each in values.items())
    return page.run(f"(async () => {{ {_HELPERS} {names}"
                    f"const photo = await fromPng({json.dumps(png)}); {code} }})()")  # fmt: skip


def array(text: str, kind: type, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_tracks_are_those_of_the_recorded_traces(page: Page, path: Path) -> None:
    trace = json.loads(path.read_text("utf-8"))
    code = f"""(async () => {{
      const {{ Tracks }} = await import("./tracks.js");
      const trace = {path.read_text("utf-8")};
      const tracks = new Tracks(trace.classes, trace.settings);
      const events = [], live = [];
      for (const {{ time, faces }} of trace.frames) {{
        events.push(...tracks.step(time, faces));
        live.push(tracks.live.map((each) => [each.id, each.state, each.doubtful]));
      }}
      events.push(...tracks.close());
      return {{ events, tracks: live, counts: tracks.counts() }};
    }})()"""
    assert page.run(code) == {key: trace[key] for key in ("events", "tracks", "counts")}


@pytest.mark.parametrize(("height", "width"), [(37, 53), (480, 640), (12, 12)])
def test_area_resize_gives_the_same_means(
    page: Page, photos: dict[str, np.ndarray], height: int, width: int
) -> None:
    photo, window = photos["bare"], (31, 17, 431, 318)
    code = """
      const { IntegralImage } = await import("./area.js");
      const image = new IntegralImage(photo);
      const out = new Float32Array(3 * height * width + 3 * 24 * 24);
      const whole = { x0: 0, y0: 0, x1: photo.width, y1: photo.height };
      image.resizeInto(out, 0, whole, width, height);
      const [x0, y0, x1, y1] = window;
      image.resizeInto(out, 3 * height * width, { x0, y0, x1, y1 }, 24, 24);
      return toBase64(new Uint8Array(out.buffer));
    """
    got = array(in_page(page, photo, code, height=height, width=width, window=window),
                np.float32, (-1,))  # fmt: skip
    image = IntegralImage(photo)
    wanted = [image.resize(height, width), image.crops(np.array([window]), 24)]
    np.testing.assert_array_equal(got, np.concatenate([each.ravel() for each in wanted]))


@pytest.mark.parametrize("recipe", CROPS)
def test_crops_are_those_that_the_classifier_was_trained_on(
    page: Page, photos: dict[str, np.ndarray], recipe: str
) -> None:
    settings, differences = CROPS[recipe], []
    for name, box in (("bare", (212.3, 101.7, 391.9, 329.9)), ("two", (-20.4, 60.1, 120.8, 250.0)),
                      ("small", (60.2, 20.7, 97.1, 70.3))):  # fmt: skip
        points = np.array([[0.3, 0.4], [0.7, 0.45], [0.52, 0.6], [0.35, 0.8], [0.66, 0.8]])
        corner, size = np.array(box[:2]), np.array(box[2:]) - box[:2]
        landmarks = (corner + points * size).astype(np.float32)
        code = """
          const { makeCrop } = await import("./crop.js");
          const { sharpnessOf, turnOf } = await import("./quality.js");
          const [x0, y0, x1, y1] = box;
          const points = landmarks.map(([x, y]) => ({ x, y }));
          const crop = makeCrop(photo, { x0, y0, x1, y1 }, points, settings);
          return [toBase64(crop.data), sharpnessOf(crop), turnOf(points)];
        """
        exact = np.asarray(box, np.float32)
        text, sharp, turned = in_page(
            page, photos[name], code, box=exact.tolist(), landmarks=landmarks.tolist(),
            settings=vars(settings),
        )  # fmt: skip
        wanted, _ = make_crop(photos[name], exact, landmarks, settings)
        got = array(text, np.uint8, wanted.shape)
        differences.append(np.abs(got.astype(int) - wanted).ravel())
        assert sharp == pytest.approx(sharpness(wanted), rel=0.01)
        assert turned == pytest.approx(turn(landmarks))
    off = np.concatenate(differences)
    exact = recipe in ("box", "halved")
    apart = off > (0 if exact else 1)
    assert apart.mean() <= (0 if exact else 0.001), f"{apart.sum()} of {off.size}, to {off.max()}"


def test_a_photo_has_the_answers_of_the_python_runtime(
    page: Page, photos: dict[str, np.ndarray], bundle_folder: Path
) -> None:
    bundle = Bundle.open(bundle_folder, threads=1)
    page.run("""(async () => {
      const { openBundle } = await import("./bundle.js");
      const { Door } = await import("./door.js");
      const { manifest, nets } = await openBundle("bundle/");
      window.door = new Door(manifest, nets);
    })()""")
    counts, statuses = {}, set()
    for name, photo in photos.items():
        wanted = bundle.predict(photo)
        got = in_page(page, photo, "return window.door.photo(photo);")
        counts[name] = len(got)
        statuses |= {face.status for face in wanted}
        assert len(got) == len(wanted), name
        for mine, face in zip(got, wanted, strict=True):
            box = [mine["box"][side] for side in ("x0", "y0", "x1", "y1")]
            assert iou(np.array([box]), np.array([face.box]))[0, 0] >= 0.99
            landmarks = [[point["x"], point["y"]] for point in mine["landmarks"]]
            np.testing.assert_allclose(landmarks, face.landmarks, atol=0.1)
            assert mine["score"] == pytest.approx(face.score, abs=1e-3)
            assert (mine["status"], mine["unknown"]) == (face.status, face.unknown), name
            answer = face.answers["mask"]
            assert mine["answers"]["mask"]["possible"] == list(answer.possible)
            assert mine["answers"]["mask"]["prediction"] == answer.prediction
            for state, value in answer.probabilities.items():
                assert mine["answers"]["mask"]["probabilities"][state] == pytest.approx(
                    value, abs=1e-3
                ), name
    assert counts["two"] == 2 and counts["nobody"] == 0 and counts["worn"] == 1
    assert statuses == {"detected", "retried"}, "no photo needs a retry"


def test_the_localiser_places_faces_also_at_the_photos_edge(
    page: Page, photos: dict[str, np.ndarray], bundle_folder: Path
) -> None:
    """With the bundle's own O-Net as the localiser, whose file has the same outputs."""
    manifest = read_manifest(bundle_folder)
    raw = read_files(bundle_folder, manifest, DETECTOR_FILES)
    settings = replace(manifest.detector, localiser=True)
    detector = load_detector({**raw, LOCALISER_FILE: raw["onet.onnx"]}, settings, threads=1)
    page.run("""(async () => {
      const { openBundle } = await import("./bundle.js");
      const { Detector } = await import("./mtcnn.js");
      const { manifest, nets } = await openBundle("bundle/");
      window.detector = new Detector({
        pnet: nets["pnet.onnx"], rnet: nets["rnet.onnx"], onet: nets["onet.onnx"],
        localiser: nets["onet.onnx"],
      }, manifest.detector);
    })()""")
    x0, y0, x1, y1 = detector.detect(photos["bare"]).faces.boxes[0].round().astype(int)
    close_up = photos["bare"][y0 + (y1 - y0) // 5 :, x0 + (x1 - x0) // 8 :]
    for name, photo in {**photos, "close-up": np.ascontiguousarray(close_up)}.items():
        wanted = detector.detect(photo)
        got = in_page(page, photo, "return window.detector.detect(photo);")
        assert len(got) == (len(wanted.faces) if wanted.status == "detected" else 0), name
        for index, mine in enumerate(got):
            found = [mine["box"][side] for side in ("x0", "y0", "x1", "y1")]
            np.testing.assert_allclose(found, wanted.faces.boxes[index], atol=0.05, err_msg=name)
            points = [[point["x"], point["y"]] for point in mine["landmarks"]]
            np.testing.assert_allclose(points, wanted.faces.landmarks[index], atol=0.05)
    assert wanted.status == "detected" and len(wanted.faces) == 1, "the close-up has no face"
    assert wanted.faces.boxes[0, 1] < -10, "the face does not reach past the edge"
