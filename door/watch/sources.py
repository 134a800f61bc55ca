"""Sources of frames: a video file, a folder of pictures, a camera or a stream.

A file gives every frame with its own time. A live source gives the newest frame only, and comes
back by itself when it is lost. Knows pixels and seconds; knows nothing of faces. No torch.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from cropfirst.core.decode import ReadError, decode
from cropfirst.core.errors import DoorError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SCHEMES = ("rtsp", "rtsps", "http", "https")
TIMEOUT = 5_000
"""Milliseconds after which opening or reading a stream has failed."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a lost source is opened again: doubled after each failure."""


@dataclass(frozen=True)
class Frame:
    """One picture of a source."""

    time: float
    """Seconds: from the start of a file, or the Unix time of a live frame."""
    image: np.ndarray
    """(H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class PictureLimits:
    """Limits of decoding a picture of a folder."""

    max_megapixels: float = 200.0
    max_scans: int = 100


class Source(Protocol):
    """A source of frames for `watch`. Iterating ends with the source."""

    name: str
    notes: list[str]
    """Notes for the summary on what went wrong on the way."""

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Release the source; can be called at any time."""


def open_source(source: str, *, every: int = 1, fps: float = 10.0) -> Source:
    """Open a source of frames.

    Args:
        source: a file, a folder, the number of a camera, or a URL.
        every: of a file or folder, use one frame in so many.
        fps: frames per second of a folder.

    Raises:
        DoorError: there is no such source, or it cannot be opened.
    """
    path = Path(source)
    if path.is_dir():
        return FolderSource(path, every=every, fps=fps)
    if path.is_file():
        return FileSource(path, every=every)
    if re.fullmatch(r"\d{1,3}", source):
        return LiveSource(int(source))
    if source.partition("://")[0].lower() in SCHEMES:
        return LiveSource(source)
    raise DoorError(
        f"wanted a video file, a folder of pictures, the number of a camera or a URL that starts "
        f"with {', '.join(f'{each}://' for each in SCHEMES)}; there is no {source!r}"
    )


@dataclass
class FileSource:
    """The frames of a video file, in order."""

    path: Path
    every: int = 1
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = str(self.path)

    def __iter__(self) -> Iterator[Frame]:
        video = cv2.VideoCapture(str(self.path))
        try:
            if not video.isOpened():
                raise DoorError(f"{self.path} is not a video that OpenCV can read")
            rate = video.get(cv2.CAP_PROP_FPS) or 25.0
            last, index = 0.0, 0
            while video.grab():
                # Some files have no times, or times that start again.
                stated = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
                last = stated if stated > last else index / rate if index / rate > last else last
                if index % self.every == 0:
                    is_whole, image = video.retrieve()
                    if is_whole:
                        yield Frame(last, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                index += 1
            if index == 0:
                raise DoorError(f"{self.path} has no frame that OpenCV can read")
        finally:
            video.release()

    def close(self) -> None:
        """Do nothing: the file is closed when the iteration ends."""


@dataclass
class FolderSource:
    """The pictures of a folder, in the order of their names, as the frames of one camera."""

    path: Path
    every: int = 1
    fps: float = 10.0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = str(self.path)
        self._files = sorted(
            each
            for each in self.path.iterdir()
            if each.suffix.lower() in SUFFIXES and not each.name.startswith(".")
        )
        if not self._files:
            raise DoorError(
                f"{self.path} holds no picture: wanted files that end with {', '.join(SUFFIXES)}"
            )

    def __iter__(self) -> Iterator[Frame]:
        for index in range(0, len(self._files), self.every):
            file = self._files[index]
            try:
                image = decode(file.read_bytes(), PictureLimits())
            except (ReadError, OSError) as error:
                self.notes.append(f"{file.name} was left out: {error}")
                continue
            yield Frame(index / self.fps, image)

    def close(self) -> None:
        """Do nothing: no file stays open."""


class LiveSource:
    """The newest frame of a camera or stream; older ones that nobody asked for are dropped."""

    def __init__(self, address: int | str) -> None:
        """Start to read in a thread.

        Args:
            address: number of a camera, or a URL.

        Raises:
            DoorError: it cannot be opened at the start; a source that is lost later comes back.
        """
        self.name = f"camera {address}" if isinstance(address, int) else without_password(address)
        self.notes: list[str] = []
        self.losses = 0
        self._address = address
        self._newest: Frame | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        video = self._open()
        if video is None:
            raise DoorError(f"cannot open {self.name}: is it there, and may this user read it?")
        self._thread = threading.Thread(target=self._read, args=(video,), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        while not self._stop.is_set():
            with self._changed:
                # With a time limit, so that a signal is noticed.
                self._changed.wait_for(lambda: self._newest is not None, timeout=0.5)
                frame, self._newest = self._newest, None
            if frame is not None:
                yield frame

    def close(self) -> None:
        """Stop to read, and wait for the thread: the process must not end while it is in OpenCV."""
        self._stop.set()
        self._thread.join(2 * TIMEOUT / 1000)
        if self.losses:
            self.notes.append(f"the source was lost {self.losses} times")

    def _open(self) -> cv2.VideoCapture | None:
        if isinstance(self._address, int):
            video = cv2.VideoCapture(self._address)
        else:
            limits = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT,
            ]  # fmt: skip
            video = cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, limits)
        if video.isOpened():
            return video
        video.release()
        return None

    def _read(self, video: cv2.VideoCapture | None) -> None:
        pause, last = FIRST_PAUSE, 0.0
        while not self._stop.is_set():
            is_whole, image = (False, None) if video is None else video.read()
            if is_whole and image is not None:
                last = max(last, time.time())  # a clock that is set back would end all tracks
                frame = Frame(last, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                with self._changed:
                    self._newest = frame
                    self._changed.notify()
                pause = FIRST_PAUSE
                continue
            if video is not None:
                video.release()
                self.losses += 1
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            video = None if self._stop.is_set() else self._open()
        if video is not None:
            video.release()


def without_password(url: str) -> str:
    """Return a URL without its user, password and query, to be printed."""
    scheme, mark, rest = url.rpartition("://")
    server, slash, path = re.split(r"[?#]", rest)[0].partition("/")
    return f"{scheme}{mark}{server.rpartition('@')[2]}{slash}{path}"
