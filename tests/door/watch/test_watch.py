"""`cropfirst watch` on drawn people: its events are those of the logic over its bundle."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from drawn_clip import SEED, write_clip

from cropfirst.cli import main
from cropfirst.door import Bundle
from cropfirst.door.sightings import sighting_of, start_tracks
from cropfirst.stage2_classify.datasets import open_dataset

FPS, COUNT = 8, 20


@pytest.fixture(scope="module")
def frames(portrait: Callable[..., Any]) -> list[np.ndarray]:
    """Two people side by side, who move a little; the second one comes later."""
    one, other = (portrait(seed, room=3, size=(192, 256)).image for seed in (1, 2))
    empty = np.full_like(one, 120)
    return [
        np.roll(np.hstack([one, other if index >= 8 else empty]), index, axis=0)
        for index in range(COUNT)
    ]


@pytest.fixture(scope="module")
def folder(frames: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frames")
    for index, frame in enumerate(frames):
        assert cv2.imwrite(str(path / f"{index:03d}.png"), frame[..., ::-1])
    return path


def run(*args: object) -> Result:
    return CliRunner().invoke(main, ["watch", *map(str, args)], catch_exceptions=False)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_events_are_those_of_the_logic_over_the_bundles_answers(
    bundle_folder: Path, folder: Path, frames: list[np.ndarray], tmp_path: Path
) -> None:
    bundle = Bundle.open(bundle_folder)
    tracks = start_tracks(bundle, "mask")
    events = []
    for index, frame in enumerate(frames):
        faces = [sighting_of(face, "mask") for face in bundle.predict(frame)]
        events += tracks.step(index / FPS, faces)
    events += tracks.close()
    wanted = [(e.event, round(e.time, 3), e.track, e.state, e.alarm) for e in events]

    result = run(folder, "--bundle", bundle_folder, "--fps", FPS, "--out", tmp_path / "e.jsonl")
    assert result.exit_code == 0, result.output
    found = rows((tmp_path / "e.jsonl").read_text())
    got = [
        tuple(row[name] for name in ("event", "time", "track", "state", "alarm"))
        for row in found
        if row["event"] != "minute"
    ]
    assert got == wanted
    assert [kind for kind, *_ in wanted].count("decided") == 2
    (minute,) = (row for row in found if row["event"] == "minute")
    assert sum(minute["classes"].values()) + minute["undecided"] + minute["doubtful"] == 2
    assert re.search(rf"^{COUNT} frames in .* frames/s\)$", result.stderr, re.MULTILINE)
    assert "2 tracks: " in result.stderr and not result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["e.jsonl"], "nothing else is stored"


@pytest.mark.slow
def test_a_person_puts_a_mask_on_and_another_stays_far_away(
    bundle_folder: Path, tmp_path: Path
) -> None:
    write_clip(tmp_path / "door.y4m", SEED)
    result = run(tmp_path / "door.y4m", "--bundle", bundle_folder, "--every", 2)
    assert result.exit_code == 0, result.output
    found = rows(result.stdout)
    first = [(row["event"], row["state"], row["alarm"]) for row in found if row.get("track") == 1]
    assert first == [
        ("decided", "normal", True), ("changed", "incorrect", True), ("changed", "wear", False),
        ("gone", "wear", False),
    ]  # fmt: skip
    last = [row for row in found if row["event"] == "gone"][-1]
    assert last["state"] is None and last["box"][2] - last["box"][0] < 60
    assert "1 track had no face of 60 pixels" in result.stderr


def test_a_video_in_and_an_annotated_video_out(
    bundle_folder: Path, frames: list[np.ndarray], tmp_path: Path
) -> None:
    source, drawn = tmp_path / "in.avi", tmp_path / "out.mp4"
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    alarm = ["--alarm", "wear", "--alarm", "incorrect", "--alarm", "normal"]
    result = run(source, "--bundle", bundle_folder, "--every", 2, "--video", drawn, *alarm)
    assert result.exit_code == 0, result.output
    assert f"{COUNT // 2} frames in" in result.stderr and "2 alarms" in result.stderr
    assert [row["alarm"] for row in rows(result.stdout) if row["event"] == "decided"] == [True] * 2
    video = cv2.VideoCapture(str(drawn))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    assert abs(count / video.get(cv2.CAP_PROP_FPS) - COUNT / FPS) < 0.3, "it keeps the time"
    images = [video.read()[1] for _ in range(count)]
    red = (images[-1][..., 2].astype(int) - images[-1][..., 1] > 120).sum()
    assert red > 200 > (images[0][..., 2].astype(int) - images[0][..., 1] > 120).sum()


def test_doubtful_tracks_are_kept_to_be_labelled(
    bundle_folder: Path, folder: Path, tmp_path: Path
) -> None:
    """With limits that no face meets, each track is doubtful; its crop is one to learn from."""
    strict = tmp_path / "strict"
    shutil.copytree(bundle_folder, strict)
    manifest = json.loads((strict / "manifest.json").read_text())
    manifest["limits"]["sharpness"] = 1e5
    (strict / "manifest.json").write_text(json.dumps(manifest))
    kept = tmp_path / "kept"
    result = run(folder, "--bundle", strict, "--fps", 4, "--keep-doubtful", kept, "--days", 7)
    assert result.exit_code == 0, result.output
    doubts = [row for row in rows(result.stdout) if row["event"] == "doubtful"]
    assert [row["reason"] for row in doubts] == ["blurred", "blurred"]
    assert f"2 crops of doubtful tracks in {kept}" in result.stderr
    photos = open_dataset(kept)
    assert photos.layout == "csv" and len({sample.group for sample in photos.samples}) == 2
    bundle = Bundle.open(bundle_folder)
    for sample in photos.samples:
        assert len(bundle.detect(cv2.imread(str(sample.path))[..., ::-1])) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--task", "age"], "wanted one of the bundle's tasks"),
        (["--alarm", "helmet"], "wanted classes of mask"),
        (["--video", "x.gif"], "--video wants a name that ends with .mp4 or .avi"),
        (["--webhook", "ftp://x"], "--webhook wants a URL"),
    ],
)
def test_wrong_options_are_named(
    bundle_folder: Path, folder: Path, args: list[str], said: str
) -> None:
    result = run(folder, "--bundle", bundle_folder, *args)
    assert result.exit_code == 1 and said in result.stderr
    assert "no bundle in" in run(folder, "--bundle", folder).stderr


@pytest.fixture
def camera(frames: list[np.ndarray]) -> Iterator[str]:
    """A camera on this machine that sends Motion JPEG without an end."""

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            data = cv2.imencode(".jpg", frames[-1][..., ::-1])[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            try:
                while True:
                    self.wfile.write(head.encode() + data + b"\r\n")
                    time.sleep(0.05)
            except OSError:
                return

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/live"
    server.shutdown()
    server.server_close()


def test_ctrl_c_ends_a_live_source_with_a_summary(
    bundle_folder: Path, camera: str, tmp_path: Path
) -> None:
    events = tmp_path / "events.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "cropfirst.cli", "watch", camera, "--bundle", str(bundle_folder),
         "--out", str(events)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (events.exists() and events.read_text().count("decided") >= 2):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert re.search(r"\d+ frames in .*frames/s", said) and "2 tracks:" in said
    found = rows(events.read_text())
    assert [row["event"] for row in found if row["event"] != "minute"][-2:] == ["gone", "gone"]
    assert abs(found[0]["time"] - time.time()) < 120, "a live source has the time of day"
