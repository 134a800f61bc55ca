"""The loop of `watch`: a frame, its faces, their tracks, and what happened to them. No torch."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from cropfirst.core.text import count_of
from cropfirst.door.bundle import Bundle
from cropfirst.door.sightings import sighting_of
from cropfirst.door.tracks import Event, Tracks
from cropfirst.door.watch.annotate import AnnotatedVideo
from cropfirst.door.watch.doubtful import DoubtfulCrops
from cropfirst.door.watch.sources import Frame, Source
from cropfirst.door.watch.webhook import Webhook


@dataclass
class Outputs:
    """The places that events go to. A file or folder is written only where it is asked for."""

    lines: TextIO
    """Receives one line of JSON for each event."""
    webhooks: Sequence[Webhook] = ()
    video: AnnotatedVideo | None = None
    doubtful: DoubtfulCrops | None = None


@dataclass
class Summary:
    """The counts of a `watch`: frames, tracks, events and alarms."""

    frames: int = 0
    seconds: float = 0.0
    """Seconds that it took."""
    tracks: int = 0
    events: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    """Class, `doubtful` or `undecided` -> number of tracks that ended so."""
    alarms: int = 0
    notes: list[str] = field(default_factory=list)

    def as_text(self) -> str:
        """Return the summary as lines."""
        rate = self.frames / self.seconds if self.seconds else 0.0
        counted = ", ".join(f"{name} {count}" for name, count in sorted(self.outcomes.items()))
        events = ", ".join(f"{name} {count}" for name, count in sorted(self.events.items()))
        return "\n".join(
            [
                f"{count_of(self.frames, 'frame')} in {self.seconds:.1f} s ({rate:.1f} frames/s)",
                count_of(self.tracks, "track") + (f": {counted}" if counted else ""),
                count_of(sum(self.events.values()), "event")
                + (f": {events}; {count_of(self.alarms, 'alarm')}" if events else ""),
                *self.notes,
            ]
        )


class Watch:
    """Follows one source with one bundle."""

    def __init__(self, bundle: Bundle, task: str, tracks: Tracks, outputs: Outputs) -> None:
        """Prepare for the first frame."""
        self.summary = Summary()
        self._bundle, self._task, self._tracks, self._out = bundle, task, tracks, outputs
        self._largest: dict[int, float] = {}
        self._too_small: list[float] = []
        self._began = time.perf_counter()

    def run(self, source: Source) -> None:
        """Take in all frames of a source; an interrupted run is finished by `close` too."""
        self._began = time.perf_counter()
        for frame in source:
            self._take_in(frame)

    def close(self, source: Source) -> Summary:
        """End all tracks, write what is left and return the summary."""
        self.summary.seconds = time.perf_counter() - self._began
        events = self._tracks.close()
        self._emit(events)
        if self._out.doubtful is not None:
            self.summary.notes.append(
                f"{count_of(self._out.doubtful.kept, 'crop')} of doubtful tracks in "
                f"{self._out.doubtful.folder}"
            )
        if self._out.video is not None:
            self._out.video.close()
        if self._too_small:
            self.summary.notes.append(
                f"{count_of(len(self._too_small), 'track')} had no face of "
                f"{self._tracks.settings.smallest_face:g} pixels, from which the bundle judges "
                f"(largest: {max(self._too_small):.0f}): bring the camera nearer"
            )
        self.summary.notes += [hook.close() for hook in self._out.webhooks]
        source.close()
        self.summary.notes += source.notes
        return self.summary

    def _take_in(self, frame: Frame) -> None:
        faces = [sighting_of(face, self._task) for face in self._bundle.predict(frame.image)]
        events = self._tracks.step(frame.time, faces)
        self.summary.frames += 1
        for track in self._tracks.live:
            self._largest[track.id] = max(track.size, self._largest.get(track.id, 0.0))
        if self._out.video is not None:
            self._out.video.add(frame, self._tracks.live)
        if self._out.doubtful is not None:
            self._out.doubtful.add(frame, self._tracks.live)
        self._emit(events)

    def _emit(self, events: Sequence[Event]) -> None:
        if self._out.doubtful is not None:
            self._out.doubtful.note(events)
        for event in events:
            row = _rounded(event.as_dict())
            self.summary.events[event.event] += 1
            self.summary.alarms += event.alarm
            if event.event == "gone":
                self.summary.tracks += 1
                lacking = "doubtful" if event.doubtful else "undecided"
                self.summary.outcomes[event.state or lacking] += 1
                largest = self._largest.pop(event.track, 0.0)
                if largest < self._tracks.settings.smallest_face:
                    self._too_small.append(largest)
            self._write(row)
            for hook in self._out.webhooks:
                hook.send(row)
        for count in self._tracks.take_finished_minutes():
            self._write(count.as_dict())

    def _write(self, row: dict[str, Any]) -> None:
        self._out.lines.write(json.dumps(row) + "\n")
        self._out.lines.flush()


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Return an event with figures for people: ms, tenths of a pixel, and 4 digits."""
    return {
        **row,
        "time": round(row["time"], 3),
        "start": round(row["start"], 3),
        "probability": None if row["probability"] is None else round(row["probability"], 4),
        "box": [round(value, 1) for value in row["box"]],
    }
