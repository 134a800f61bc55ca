"""Record the traces that the logic of docs/door.md is held to, in Python and in JavaScript.

A trace is a file in tests/door/traces/ with the classes, the settings, the frames, and what has to
come out: events, counts, and [number, state, doubtful] of each track after every frame. Its frames
are drawn here from a seed. Run it after a change of the specification, and read what changed:

    python tests/door/make_traces.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cropfirst.door.tracks import Sighting, Tracks, TrackSettings

FOLDER = Path(__file__).parent / "traces"
MASK = ("wear", "incorrect", "normal")
FRAME = 0.125
"""Seconds between frames: a power of two, so that limits are met exactly."""
Face = dict[str, Any]
Trace = dict[str, Any]


class Drawing:
    """Draws faces with answers around a class, from one seed."""

    def __init__(self, seed: int, classes: Sequence[str] = MASK) -> None:
        self.rng = np.random.default_rng(seed)
        self.classes = tuple(classes)

    def face(
        self,
        state: str,
        x: float,
        y: float = 100,
        *,
        size: float = 100,
        sharpness: float = 60,
        sure: float = 0.9,
        shake: float = 2,
        unknown: str | None = None,
        answered: bool = True,
    ) -> Face:
        """Return a face whose box starts near x, y; `sure` is about the probability of `state`."""
        left, top = (round(each + self.rng.normal(0, shake), 2) for each in (x, y))
        rest = self.rng.dirichlet(np.ones(len(self.classes) - 1))
        top_share = float(np.clip(sure + self.rng.normal(0, 0.03), 0.01, 0.99))
        others = iter((1 - top_share) * rest)
        shares = [top_share if name == state else float(next(others)) for name in self.classes]
        probabilities = dict(zip(self.classes, (round(each, 3) for each in shares), strict=True))
        possible = [name for name, share in probabilities.items() if share >= 0.2]
        return {
            "box": [left, top, round(left + size, 2), round(top + 1.2 * size, 2)],
            "size": size,
            "sharpness": round(float(sharpness + self.rng.normal(0, 3)), 2) if sharpness else 0.0,
            "probabilities": probabilities if answered else None,
            "possible": possible if answered else [],
            "unknown": unknown,
        }


def frames_of(count: int, draw: Callable[[int], list[Face]], *, start: float = 0) -> list[Trace]:
    return [{"time": start + FRAME * index, "faces": draw(index)} for index in range(count)]


def one_person(draw: Drawing) -> list[Trace]:
    return frames_of(16, lambda i: [draw.face("wear", 50 + 6 * i)])


def bare_wrong_worn(draw: Drawing) -> list[Trace]:
    states = ("normal", "incorrect", "wear")
    return frames_of(72, lambda i: [draw.face(states[i // 24], 200)])


def crossing(draw: Drawing) -> list[Trace]:
    def both(i: int) -> list[Face]:
        faces = [draw.face("wear", 20 + 9 * i), draw.face("normal", 460 - 9 * i, 130, size=110)]
        return faces[:1] if 23 <= i <= 27 else faces[:: 1 if i % 2 else -1]

    return frames_of(50, both)


def gaps(draw: Drawing) -> list[Trace]:
    """Away for as long as a track lives, exactly, then for one frame longer."""
    away = {*range(10, 17), *range(30, 38)}
    return frames_of(52, lambda i: [] if i in away else [draw.face("incorrect", 200)])


def far_away(draw: Drawing) -> list[Trace]:
    """Someone stays far away; someone else comes near and is judged from 40 pixels on."""

    def both(i: int) -> list[Face]:
        near = draw.face("normal", 300, size=30 + i / 2, shake=0.5)
        return [draw.face("normal", 20, size=24, shake=0.3), near]

    return frames_of(60, both)


def at_the_limits(draw: Drawing) -> list[Trace]:
    """Sizes just below, at and above the smallest face, and no sharpness at all."""
    sizes = (39.99, 40.0, 80.0, 80.01)

    def row(i: int) -> list[Face]:
        faces = [
            draw.face("wear", 20 + 150 * k, size=size, shake=0.2) for k, size in enumerate(sizes)
        ]
        return [*faces, draw.face("wear", 650, sharpness=0)]

    return frames_of(40, row)


def empty(draw: Drawing) -> list[Trace]:
    return frames_of(12, lambda i: [])


def too_short(draw: Drawing) -> list[Trace]:
    """Two frames are no person; three are one."""
    return frames_of(
        24,
        lambda i: (
            ([draw.face("wear", 20)] if i in (2, 3) else [])
            + ([draw.face("wear", 300)] if i in (2, 3, 4) else [])
        ),
    )


def equal_overlaps(draw: Drawing) -> list[Trace]:
    """One face between two tracks, then two equal faces on one track: the lower number wins."""
    left, right = (
        draw.face("wear", 100, sure=0.95, shake=0),
        draw.face("normal", 160, sure=0.95, shake=0),
    )
    middle, twin = draw.face("incorrect", 130, shake=0), draw.face("normal", 130, shake=0)

    def frame(i: int) -> list[Face]:
        return [left, right] if i < 8 else [middle] if i < 14 else [twin, middle]

    return frames_of(30, frame)


def doubt(draw: Drawing) -> list[Trace]:
    """Two possible classes, then a turned head, then an answer, then a turned head again."""

    def frame(i: int) -> list[Face]:
        if i < 24:
            return [draw.face("normal", 200, sure=0.6)]
        if i < 36:
            return [draw.face("normal", 200, unknown="turned")]
        if i < 60:
            return [draw.face("incorrect", 200)]
        return [draw.face("incorrect", 200, unknown="turned")]

    return frames_of(100, frame)


def flicker(draw: Drawing) -> list[Trace]:
    """The answers change from frame to frame; single wrong ones do not change a state."""
    states = ["wear", "normal"] * 16 + ["wear"] * 20 + ["normal", "wear", "wear"] * 12
    return frames_of(len(states), lambda i: [draw.face(states[i], 200)])


def few_answers(draw: Drawing) -> list[Trace]:
    """A face is followed in every frame and classified in every third one, as on the page."""
    return frames_of(40, lambda i: [draw.face("normal", 90 + 5 * i, answered=i % 3 == 0)])


def other_classes(draw: Drawing) -> list[Trace]:
    """A bundle without masks has no alarm."""
    return frames_of(40, lambda i: [draw.face("glasses" if i < 20 else "none", 200)])


def comes_back(draw: Drawing) -> list[Trace]:
    """Three visits of one person in three minutes are three tracks."""
    times = [start + FRAME * index for start in (10.0, 59.5, 125.0) for index in range(12)]
    return [{"time": time, "faces": [draw.face("wear", 200)]} for time in times]


def crowd(draw: Drawing) -> list[Trace]:
    """Six people walk at random, each seen in most frames, at uneven times; some are blurred."""
    place = draw.rng.uniform((0, 0), (560, 300), (6, 2))
    states = [MASK[int(each)] for each in draw.rng.integers(0, 3, 6)]
    trace, time = [], 55.0
    for _ in range(60):
        time = round(time + float(draw.rng.uniform(0.05, 0.3)), 3)
        place += draw.rng.normal(0, 6, place.shape)
        faces = [
            draw.face(
                state, float(x), float(y), size=float(round(30 + 14 * number, 1)),
                sharpness=float(draw.rng.uniform(10, 80)),
                sure=float(draw.rng.choice([0.95, 0.6])),
                unknown=[None, None, None, "blurred"][int(draw.rng.integers(4))],
            )
            for number, ((x, y), state) in enumerate(zip(place, states, strict=True))
            if draw.rng.random() < 0.8
        ]  # fmt: skip
        order = draw.rng.permutation(len(faces))
        trace.append({"time": time, "faces": [faces[int(k)] for k in order]})
    return trace


SCENES: dict[str, Callable[[Drawing], list[Trace]]] = {
    scene.__name__: scene
    for scene in (
        one_person, bare_wrong_worn, crossing, gaps, far_away, at_the_limits, empty, too_short,
        equal_overlaps, doubt, flicker, few_answers, other_classes, comes_back, crowd,
    )
}  # fmt: skip
OTHER_CLASSES = {"other_classes": ("glasses", "none")}
OTHER_SETTINGS: dict[str, dict[str, Any]] = {
    "crossing": {"min_iou": 0.4},
    "at_the_limits": {"smallest_sharpness": 0.0},
    "one_person": {"smallest_face": 0.0, "smallest_sharpness": 0.0},
    "crowd": {"lost_seconds": 0.5, "memory_seconds": 3.0, "alarm_classes": ("incorrect",)},
}
SETTINGS = {"smallest_face": 40.0, "smallest_sharpness": 25.0}


def replay(trace: Trace) -> Trace:
    """Return the events, counts and tracks of a trace's frames, as JSON types."""
    settings = TrackSettings(
        **{**trace["settings"], "alarm_classes": tuple(trace["settings"]["alarm_classes"])}
    )
    tracks = Tracks(trace["classes"], settings)
    events, states = [], []
    for frame in trace["frames"]:
        faces = [
            Sighting(**{**face, "box": tuple(face["box"]), "possible": tuple(face["possible"])})
            for face in frame["faces"]
        ]
        events += tracks.step(frame["time"], faces)
        states.append([[each.id, each.state, each.doubtful] for each in tracks.live])
    events += tracks.close()
    return {
        "events": [event.as_dict() for event in events],
        "counts": [asdict(count) for count in tracks.counts()],
        "tracks": states,
    }


def record(number: int, name: str) -> Trace:
    """Draw the frames of a scene and return its trace."""
    classes = OTHER_CLASSES.get(name, MASK)
    settings = asdict(TrackSettings(**{**SETTINGS, **OTHER_SETTINGS.get(name, {})}))
    settings["alarm_classes"] = list(settings["alarm_classes"])
    trace = {
        "classes": list(classes),
        "settings": settings,
        "frames": SCENES[name](Drawing(number, classes)),
    }
    return {**trace, **replay(trace)}


def as_text(trace: Trace) -> str:
    """Return a trace as JSON with one line per frame and event."""
    rows = []
    for key, value in trace.items():
        if isinstance(value, list) and key in ("frames", "events", "counts", "tracks") and value:
            lines = ",\n".join(json.dumps(each, separators=(",", ":")) for each in value)
            rows.append(f'"{key}": [\n{lines}\n]')
        else:
            rows.append(f'"{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(rows) + "\n}\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for number, name in enumerate(SCENES):
        (FOLDER / f"{name}.json").write_text(as_text(record(number, name)), "utf-8")


if __name__ == "__main__":
    main()
