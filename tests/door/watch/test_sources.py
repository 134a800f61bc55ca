"""Tests of frame sources: files, folders, and streams that are lost and come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from cropfirst.core.errors import DoorError
from cropfirst.door.watch import sources
from cropfirst.door.watch.sources import LiveSource, open_source, without_password


def grey(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for value in range(0, 200, 20):
        image = grey(value)
        image[..., 2] = 255  # red, in OpenCV's order
        writer.write(image)
    writer.release()
    return path


def test_a_video_gives_every_frame_in_rgb_with_its_time(video: Path) -> None:
    frames = list(open_source(str(video)))
    assert [round(frame.time, 3) for frame in frames] == [index / 10 for index in range(10)]
    assert frames[0].image[..., 0].mean() > 200 > 50 > frames[0].image[..., 2].mean()


def test_every_second_frame(video: Path) -> None:
    every = list(open_source(str(video), every=3))
    assert [round(frame.time, 3) for frame in every] == [0.0, 0.3, 0.6, 0.9]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, value in (("b.png", 90), ("a.png", 10), ("c.png", 200)):
        assert cv2.imwrite(str(tmp_path / name), grey(value))
    (tmp_path / "bb.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("x")
    source = open_source(str(tmp_path), fps=4)
    assert [(frame.time, int(frame.image[0, 0, 0])) for frame in source] == [
        (0.0, 10), (0.25, 90), (0.75, 200),
    ]  # fmt: skip
    assert len(source.notes) == 1 and source.notes[0].startswith("bb.jpg was left out")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.mp4", "there is no"),
        ("ftp://host/x", "there is no"),
        ("empty", "holds no picture"),
        ("text.mp4", "not a video"),
        ("99", "cannot open camera 99"),
        ("rtsp://user:secret@127.0.0.1:9/x", r"cannot open rtsp://127\.0\.0\.1:9/x"),
        ("http://[::1/x", r"cannot open http://\[::1/x"),
    ],
)
def test_what_is_no_source_is_named(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    path = tmp_path / name
    with pytest.raises(DoorError, match=said) as error:
        list(open_source(str(path) if path.exists() else name))
    assert "secret" not in str(error.value)


def test_a_password_is_not_printed() -> None:
    assert without_password("rtsp://me:pw@cam:554/live?token=1") == "rtsp://cam:554/live"
    assert without_password("me:pw@cam/live#1") == "cam/live"


class Camera(BaseHTTPRequestHandler):
    """A camera that sends Motion JPEG; it hangs up after some frames, and answers again."""

    frames_per_call = 8
    calls = 0

    def do_GET(self) -> None:
        type(self).calls += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for _ in range(self.frames_per_call):
            data = cv2.imencode(".jpg", grey(40 * self.calls))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + data + b"\r\n")
            except OSError:
                return
            time.sleep(0.02)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def camera() -> Iterator[str]:
    Camera.calls = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/live.mjpg"
    server.shutdown()
    server.server_close()


def test_a_lost_stream_comes_back_by_itself(camera: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FIRST_PAUSE", 0.05)
    source = LiveSource(camera)
    values, times = set(), []
    for frame in source:
        values.add(round(int(frame.image.mean()) / 40))
        times.append(frame.time)
        if {1, 2} <= values:
            break
    source.close()
    assert source.losses >= 1 and times == sorted(times) and abs(times[-1] - time.time()) < 5


def test_only_the_newest_frame_of_a_stream_is_given(camera: str) -> None:
    source = LiveSource(camera)
    frames = iter(source)
    next(frames)
    time.sleep(0.4)  # the camera has sent all its frames, and nobody asked for them
    left = [next(frames), source._newest]
    source.close()
    assert left[0].image.shape == (48, 64, 3) and left[1] is None
