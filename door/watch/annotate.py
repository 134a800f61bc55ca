"""An annotated video: the boxes and states of the tracks, drawn on the frames. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from cropfirst.core.errors import DoorError
from cropfirst.door.tracks import Track
from cropfirst.door.watch.sources import Frame

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
RATE = 12.0
"""Frames per second of the video: a frame is repeated, or left out, to keep its time."""
LONGEST_GAP = 10.0
"""Seconds: after a longer gap of the source, the video goes on at once."""
GREY, YELLOW, GREEN, RED = (150, 150, 150), (230, 200, 0), (0, 170, 0), (220, 0, 0)


class AnnotatedVideo:
    """A video that is written frame by frame."""

    def __init__(self, path: Path, *, alarm_classes: Sequence[str]) -> None:
        """Prepare; the file is opened with the first frame, whose size all others get.

        Raises:
            DoorError: the name does not end with the suffix of a format that can be written.
        """
        if path.suffix.lower() not in CODECS:
            raise DoorError(f"--video wants a name that ends with {' or '.join(CODECS)}: {path}")
        self._path, self._alarm = path, tuple(alarm_classes)
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._next = 0.0

    def add(self, frame: Frame, tracks: Sequence[Track]) -> None:
        """Draw the tracks that have a face in this frame, and write it.

        Raises:
            DoorError: the file cannot be written.
        """
        if self._writer is None:
            self._size = (frame.image.shape[1], frame.image.shape[0])
            self._next = frame.time
            codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._path), codec, RATE, self._size)
            if not self._writer.isOpened():
                raise DoorError(f"cannot write a video to {self._path}")
        if frame.time < self._next - 1e-9:
            return
        image = draw_tracks(frame.image, tracks, time=frame.time, alarm_classes=self._alarm)
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size)
        if frame.time - self._next > LONGEST_GAP:
            self._next = frame.time
        while self._next <= frame.time + 1e-9:
            self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            self._next += 1 / RATE

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def draw_tracks(
    image: np.ndarray, tracks: Sequence[Track], *, time: float, alarm_classes: Sequence[str]
) -> np.ndarray:
    """Return a copy of a frame with a box and the state of each track that was seen at `time`.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    drawn = image.copy()
    scale = max(0.4, image.shape[0] / 900)
    for track in tracks:
        if track.last_seen != time:
            continue
        text, colour = f"{track.id}: ...", GREY
        if track.state is not None:
            share = track.probabilities.get(track.state)
            figure = "" if share is None else f" {share:.2f}"
            text = f"{track.id}: {track.state}{figure}"
            colour = RED if track.state in alarm_classes else GREEN
        elif track.doubtful:
            text, colour = f"{track.id}: not sure, please look at the camera", YELLOW
        x1, y1, x2, y2 = (round(value) for value in track.box)
        cv2.rectangle(drawn, (x1, y1), (x2, y2), colour, 2)
        place = (max(x1, 2), max(y1 - 6, round(22 * scale)))
        for ink, width in ((0, 0, 0), 3), (colour, 1):
            cv2.putText(
                drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, width, cv2.LINE_AA
            )
    return drawn
