"""Tracks of faces through the frames of one camera, and the events that they cause.

The specification is the section "The logic" of docs/door.md. The page has the same logic in
JavaScript, and tests/door/traces/ holds both to it: sums are taken in the order that is written
there, so that the figures are equal to the last bit.

Knows boxes, probabilities and seconds; knows no pixels, networks, files or clocks. No torch.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Box = tuple[float, float, float, float]
Kind = Literal["decided", "changed", "doubtful", "gone"]
_DOUBTFUL, _UNDECIDED = -1, -2


@dataclass(frozen=True)
class TrackSettings:
    """The numbers of the logic. The defaults are those of docs/door.md."""

    smallest_face: float = 40.0
    """Shorter side of the box in pixels from which a face is judged."""
    smallest_sharpness: float = 0.0
    """The bundle's limit of sharpness; 0 leaves sharpness out of the weight."""
    full_weight_at: float = 2.0
    """Multiple of both limits from which an answer has the weight 1."""
    min_iou: float = 0.3
    """Overlap (IoU) from which a box continues a track, 0 to 1."""
    lost_seconds: float = 1.0
    """Seconds without a face after which a track ends."""
    min_sightings: int = 3
    """Frames with a face from which a track is a person; with fewer it is forgotten silently."""
    memory_seconds: float = 2.0
    """Seconds for which an answer is part of the evidence."""
    enough_weight: float = 1.5
    """Sum of the weights from which the evidence can decide."""
    hold_seconds: float = 0.5
    """Seconds for which a class must be the only possible one before it becomes the state."""
    doubt_seconds: float = 2.0
    """Seconds without agreement with the state after which a track is doubtful."""
    alarm_classes: tuple[str, ...] = ("normal", "incorrect")
    """Classes whose decision is an alarm; names that the task does not have are ignored."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "alarm_classes" and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"wanted {name} >= 0, got {value!r}")


@dataclass(frozen=True)
class Sighting:
    """One face in one frame, as far as the logic needs it."""

    box: Box
    """x1, y1, x2, y2 in pixels."""
    size: float
    """Shorter side of the box in pixels."""
    sharpness: float
    """Sharpness as the bundle measures it, >= 0."""
    probabilities: dict[str, float] | None = None
    """Probability of each class; None for a face that was not classified in this frame."""
    possible: tuple[str, ...] = ()
    """Classes that stay possible after this frame."""
    unknown: str | None = None
    """Why the face cannot be judged, such as `turned`; None for one that can."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a track."""

    event: Kind
    """`decided`: the first class of the track. `changed`: another class, or a class after doubt.
    `doubtful`: no single class is possible. `gone`: the track has ended."""
    time: float
    """Seconds, of the frame that caused it."""
    track: int
    """Number of the track, from 1."""
    state: str | None
    """Class of the track from now on; None for a track without one."""
    doubtful: bool
    """Whether the track is doubtful from now on."""
    before: str | None
    """Class of the track until now."""
    probability: float | None
    """Mean probability of `state` in the evidence; None without a state, and for `gone`."""
    possible: tuple[str, ...]
    """Classes that are possible by the evidence, in the order of the task."""
    alarm: bool
    """Whether `state` is new and one of the alarm classes."""
    reason: str | None
    """Reason of `doubtful`: why the newest face cannot be judged, or `not sure`; None otherwise."""
    box: Box
    """The newest box of the track."""
    start: float
    """Seconds, of the first frame of the track."""
    sightings: int
    """Frames with a face of the track."""

    def as_dict(self) -> dict[str, Any]:
        """Return the event as JSON types."""
        return {**asdict(self), "possible": list(self.possible), "box": list(self.box)}


@dataclass(frozen=True)
class MinuteCount:
    """The number of tracks that began in one minute, by their newest state."""

    minute: int
    """`floor(start / 60)` of the tracks."""
    classes: dict[str, int]
    """Number of tracks of each class of the task."""
    doubtful: int
    """Tracks that are doubtful, or were when they ended."""
    undecided: int
    """Tracks that have no answer yet, or ended before there was one."""

    def as_dict(self) -> dict[str, Any]:
        """Return the count as JSON types, in a form that differs from that of an event."""
        return {"event": "minute", **asdict(self)}


@dataclass(eq=False)
class Track:
    """One person from coming into the picture until leaving it."""

    id: int
    box: Box
    start: float
    last_seen: float
    sightings: int = 0
    state: str | None = None
    """Class of the track; None for one that is undecided or doubtful."""
    doubtful: bool = False
    decided: bool = False
    """Whether the track ever had a class."""
    possible: tuple[str, ...] = ()
    """Classes that are possible by the newest evidence."""
    probabilities: dict[str, float] = field(default_factory=dict)
    """Weighted mean probability of each class; empty without evidence."""
    answers: deque[tuple[float, float, Sighting]] = field(default_factory=deque)
    """Evidence as (time, weight, face), the oldest first."""
    candidate: str | None = None
    candidate_since: float = 0.0
    agreed: float | None = None
    """Time at which the evidence last agreed with the state, or of the first judgement."""

    @property
    def size(self) -> float:
        """Shorter side of the box in pixels."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1])


class Tracks:
    """Follows the faces of one camera."""

    def __init__(self, classes: Sequence[str], settings: TrackSettings | None = None) -> None:
        """Prepare for the first frame.

        Args:
            classes: names of the task's classes, in the order of their codes.
        """
        self.classes = tuple(classes)
        self.settings = settings or TrackSettings()
        self._tracks: list[Track] = []
        self._ended: dict[int, Counter[int]] = {}
        self._next_id = 1
        self._time: float | None = None
        self._is_closed = False

    @property
    def live(self) -> tuple[Track, ...]:
        """The tracks of persons that have not ended, in the order of their numbers."""
        return tuple(track for track in self._tracks if self._is_person(track))

    def step(self, time: float, faces: Sequence[Sighting]) -> list[Event]:
        """Take in one frame.

        Args:
            time: seconds from any fixed moment; not less than that of the frame before.
            faces: the faces of the frame; none for an empty frame.

        Returns:
            The events of this frame: first the tracks that have ended, then changes of state,
            both in the order of the tracks' numbers.

        Raises:
            ValueError: the time is smaller than that of the frame before, or not a number.
        """
        if not math.isfinite(time) or (self._time is not None and time < self._time):
            raise ValueError(f"wanted a time of at least {self._time} s, got {time} s")
        self._time = time
        events = self._end(lambda track: time - track.last_seen > self.settings.lost_seconds)
        for track, face in self._match(time, faces):
            track.box, track.last_seen = face.box, time
            track.sightings += 1
            self._remember(track, face, time)
            if self._is_person(track) and face.size >= self.settings.smallest_face:
                events += self._judge(track, face, time)
        return events

    def close(self) -> list[Event]:
        """End all tracks, as at the end of a video; return their events."""
        self._is_closed = True
        return self._end(lambda track: True)

    def counts(self) -> list[MinuteCount]:
        """Return the tracks of each minute with any, by their newest state."""
        minutes = {minute: Counter(tally) for minute, tally in self._ended.items()}
        for track in self.live:
            minutes.setdefault(_minute(track), Counter())[self._outcome(track)] += 1
        return [self._count(minute, tally) for minute, tally in sorted(minutes.items())]

    def take_finished_minutes(self) -> list[MinuteCount]:
        """Return the counts that cannot change any more, and forget them."""
        changing = {_minute(track) for track in self._tracks}
        if self._time is not None and not self._is_closed:
            changing.add(math.floor(self._time / 60))
        finished = sorted(set(self._ended) - changing)
        return [self._count(minute, self._ended.pop(minute)) for minute in finished]

    def _count(self, minute: int, tally: Counter[int]) -> MinuteCount:
        classes = {name: tally[index] for index, name in enumerate(self.classes)}
        return MinuteCount(minute, classes, tally[_DOUBTFUL], tally[_UNDECIDED])

    def _is_person(self, track: Track) -> bool:
        return track.sightings >= self.settings.min_sightings

    def _outcome(self, track: Track) -> int:
        """Return the key under which a track is counted: the index of its class, or its lack."""
        if track.state is not None:
            return self.classes.index(track.state)
        return _DOUBTFUL if track.doubtful else _UNDECIDED

    def _end(self, is_over: Callable[[Track], bool]) -> list[Event]:
        """End the tracks for which `is_over(track)`; return an event for each person."""
        over = [track for track in self._tracks if is_over(track)]
        self._tracks = [track for track in self._tracks if track not in over]
        people = [track for track in over if self._is_person(track)]
        for track in people:
            self._ended.setdefault(_minute(track), Counter())[self._outcome(track)] += 1
        return [self._event("gone", track, before=track.state) for track in people]

    def _match(self, time: float, faces: Sequence[Sighting]) -> list[tuple[Track, Sighting]]:
        """Give each face a track, a new one where none fits; ordered by the tracks' numbers."""
        pairs = []
        for track in self._tracks:
            for index, face in enumerate(faces):
                overlap = iou(track.box, face.box)
                if overlap >= self.settings.min_iou:
                    pairs.append((-overlap, track.id, index, track))
        pairs.sort(key=lambda pair: pair[:3])
        matched: dict[int, Track] = {}
        taken: set[int] = set()
        for _, number, index, track in pairs:
            if number not in taken and index not in matched:
                matched[index] = track
                taken.add(number)
        for index, face in enumerate(faces):
            if index not in matched:
                matched[index] = Track(self._next_id, face.box, time, time)
                self._tracks.append(matched[index])
                self._next_id += 1
        return sorted(
            ((track, faces[index]) for index, track in matched.items()), key=lambda pair: pair[0].id
        )

    def _remember(self, track: Track, face: Sighting, time: float) -> None:
        """Add the answer of a face to the evidence, and forget what is too old."""
        rules = self.settings
        while track.answers and time - track.answers[0][0] > rules.memory_seconds:
            track.answers.popleft()
        if face.probabilities and face.unknown is None and face.size >= rules.smallest_face:
            weight = _share(face.size, rules.full_weight_at * rules.smallest_face) * _share(
                face.sharpness, rules.full_weight_at * rules.smallest_sharpness
            )
            track.answers.append((time, weight, face))

    def _judge(self, track: Track, face: Sighting, time: float) -> Iterator[Event]:
        """Weigh the evidence, and change the state of the track where it is due."""
        candidate = self._weigh(track)
        if track.agreed is None or (candidate is not None and candidate == track.state):
            track.agreed = time
        if candidate != track.candidate:
            track.candidate, track.candidate_since = candidate, time
        before = track.state
        held = time - track.candidate_since
        if candidate not in (None, track.state) and held >= self.settings.hold_seconds:
            kind: Kind = "changed" if track.decided else "decided"
            track.state, track.doubtful, track.decided, track.agreed = candidate, False, True, time
            yield self._event(kind, track, before=before)
        elif not track.doubtful and time - track.agreed >= self.settings.doubt_seconds:
            track.state, track.doubtful = None, True
            yield self._event("doubtful", track, before=before, reason=face.unknown or "not sure")

    def _weigh(self, track: Track) -> str | None:
        """Return the only class that is possible by the evidence, or None."""
        total = 0.0
        sums = dict.fromkeys(self.classes, 0.0)
        support = dict.fromkeys(self.classes, 0.0)
        for _, weight, face in track.answers:
            total += weight
            for name in self.classes:
                sums[name] += weight * (face.probabilities or {})[name]
                if name in face.possible:
                    support[name] += weight
        if total == 0:
            track.probabilities, track.possible = {}, ()
            return None
        track.probabilities = {name: value / total for name, value in sums.items()}
        track.possible = tuple(name for name in self.classes if 2 * support[name] > total)
        best = max(self.classes, key=lambda name: track.probabilities[name])  # the first of equals
        is_enough = total >= self.settings.enough_weight
        return best if is_enough and track.possible == (best,) else None

    def _event(
        self, kind: Kind, track: Track, *, before: str | None, reason: str | None = None
    ) -> Event:
        is_new = kind in ("decided", "changed")
        return Event(
            event=kind,
            time=self._time or 0.0,
            track=track.id,
            state=track.state,
            doubtful=track.doubtful,
            before=before,
            probability=track.probabilities[track.state] if is_new and track.state else None,
            possible=track.possible,
            alarm=is_new and track.state in self.settings.alarm_classes,
            reason=reason,
            box=track.box,
            start=track.start,
            sightings=track.sightings,
        )


def iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes; 0 where neither has an area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def _share(value: float, full: float) -> float:
    return min(1.0, value / full) if full > 0 else 1.0


def _minute(track: Track) -> int:
    return math.floor(track.start / 60)
