"""The logic of docs/door.md: recorded traces, and what must hold whatever the frames are."""

from __future__ import annotations

import itertools
import json
import re
import runpy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cropfirst.door.tracks import Event, Sighting, Tracks, TrackSettings, iou

HERE = Path(__file__).parent
RECORDER = runpy.run_path(str(HERE / "make_traces.py"))
TRACES = {path.stem: json.loads(path.read_text("utf-8")) for path in HERE.glob("traces/*.json")}
CLASSES = ("wear", "incorrect", "normal")


def face(state: str = "wear", x: float = 0, *, size: float = 100, **changes: Any) -> Sighting:
    probabilities = {name: 0.9 if name == state else 0.05 for name in CLASSES}
    values = {"sharpness": 1.0, "probabilities": probabilities, "possible": (state,), **changes}
    return Sighting((x, 0, x + size, size), size, **values)


def play(*states: str, seconds: float = 0.125, **rules: Any) -> list[Event]:
    tracks = Tracks(CLASSES, TrackSettings(**rules))
    events = [
        each for i, state in enumerate(states) for each in tracks.step(i * seconds, [face(state)])
    ]
    return events + tracks.close()


@pytest.mark.parametrize("name", RECORDER["SCENES"])
def test_a_recorded_trace_comes_out_as_recorded(name: str) -> None:
    trace = TRACES[name]
    answer = json.loads(json.dumps(RECORDER["replay"](trace)))
    for key in ("events", "counts", "tracks"):
        assert answer[key] == trace[key], key


def test_the_recordings_are_what_their_script_draws() -> None:
    assert set(TRACES) == set(RECORDER["SCENES"])
    for number, name in enumerate(RECORDER["SCENES"]):
        drawn = RECORDER["as_text"](RECORDER["record"](number, name))
        assert drawn == (HERE / f"traces/{name}.json").read_text("utf-8"), name


def test_the_page_states_every_setting_and_every_field_of_an_event() -> None:
    page = (HERE.parents[1] / "docs/door.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    for name, value in asdict(TrackSettings()).items():
        if name == "alarm_classes":
            assert re.findall(r"`(\w+)`", rows[name]) == list(value)
        else:
            assert float(re.findall(r"[\d.]+", rows[name])[-1]) == value, name
    assert set(play(*["wear"] * 8)[0].as_dict()) <= set(rows)


def test_the_page_has_the_same_settings() -> None:
    code = (HERE.parents[1] / "door/web/static/tracks.js").read_text("utf-8")
    found = re.findall(r"^  (\w+): (.+),$", code.partition("DEFAULTS")[2].partition("});")[0], re.M)
    wanted = asdict(TrackSettings())
    assert {name: json.loads(value) for name, value in found} == {
        **wanted, "alarm_classes": list(wanted["alarm_classes"]),
    }  # fmt: skip


def test_a_track_is_decided_once_and_after_the_hold() -> None:
    decided, gone = play(*["wear"] * 16)
    # Judged from the third frame on (0.25 s), and held for half a second from there.
    assert (decided.event, decided.time, decided.state, decided.alarm) == (
        "decided",
        0.75,
        "wear",
        False,
    )
    assert decided.probability == pytest.approx(0.9)
    assert (gone.event, gone.state, gone.sightings) == ("gone", "wear", 16)


@pytest.mark.parametrize(
    ("state", "alarm"), [("wear", False), ("incorrect", True), ("normal", True)]
)
def test_only_alarm_classes_alarm_and_only_from_a_single_class(state: str, alarm: bool) -> None:
    assert play(*[state] * 8)[0].alarm is alarm
    tracks = Tracks(CLASSES)
    unsure = face(state, possible=("wear", "normal"))
    events = [each for i in range(40) for each in tracks.step(i / 8, [unsure])]
    assert [(each.event, each.state, each.alarm) for each in events] == [("doubtful", None, False)]
    assert events[0].reason == "not sure" and events[0].possible == ("wear", "normal")


def test_one_wrong_frame_changes_nothing() -> None:
    assert [each.event for each in play(*["wear"] * 12, "normal", *["wear"] * 12)] == [
        "decided",
        "gone",
    ]


def test_people_count_not_frames_and_who_comes_back_counts_again() -> None:
    tracks = Tracks(CLASSES)
    for start in (0, 62):
        for i in range(16):
            tracks.step(start + i / 8, [face("normal"), face("wear", 500, size=30)])
    tracks.close()
    counts = [asdict(count) for count in tracks.counts()]
    nobody = {"wear": 0, "incorrect": 0}
    assert counts == [
        {"minute": minute, "classes": {**nobody, "normal": 1}, "doubtful": 0, "undecided": 1}
        for minute in (0, 1)
    ]


def test_bigger_and_sharper_faces_weigh_more() -> None:
    rules = TrackSettings(smallest_face=50, smallest_sharpness=10)
    tracks = Tracks(CLASSES, rules)
    for i in range(4):
        tracks.step(i / 8, [face("wear", sharpness=20.0)])
    tracks.step(0.5, [face("normal", sharpness=5.0)])
    (track,) = tracks.live
    assert track.probabilities["normal"] == pytest.approx((4 * 0.05 + 0.25 * 0.9) / 4.25)


def test_time_must_not_go_back() -> None:
    tracks = Tracks(CLASSES)
    tracks.step(1.0, [])
    tracks.step(1.0, [])
    with pytest.raises(ValueError, match=r"at least 1\.0 s, got 0\.5 s"):
        tracks.step(0.5, [])


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_a_wrong_setting_is_named(value: float) -> None:
    with pytest.raises(ValueError, match="wanted hold_seconds >= 0"):
        TrackSettings(hold_seconds=value)


def test_iou() -> None:
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == 1 / 7
    assert iou((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert iou((1, 1, 1, 1), (1, 1, 1, 1)) == 0


FACES = st.builds(
    face,
    st.sampled_from(CLASSES),
    st.sampled_from([0.0, 20.0, 50.0, 200.0]),
    size=st.sampled_from([30.0, 40.0, 100.0]),
    possible=st.sampled_from([(), ("wear",), ("normal",), CLASSES]),
    unknown=st.sampled_from([None, None, "turned"]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.1]), st.lists(FACES, max_size=4)), max_size=40
    )
)
def test_whatever_the_frames_each_track_has_one_story(
    frames: list[tuple[float, list[Sighting]]],
) -> None:
    tracks, time, events = Tracks(CLASSES), 0.0, []
    for step, faces in frames:
        time += step
        events += tracks.step(time, faces)
        assert len({each.id for each in tracks.live}) == len(tracks.live)
    events += tracks.close()
    assert not tracks.live
    stories: dict[int, list[Event]] = {}
    for event in events:
        stories.setdefault(event.track, []).append(event)
    for story in stories.values():
        kinds = [event.event for event in story]
        assert kinds.count("gone") == 1 and kinds[-1] == "gone"
        assert "changed" not in kinds[: kinds.index("decided")] if "decided" in kinds else True
        assert kinds.count("decided") <= 1
        for event, after in itertools.pairwise(story):
            assert after.before == event.state
        for event in story:
            assert not event.alarm or event.possible == (event.state,) != ("wear",)
    total = sum(
        sum(each.classes.values()) + each.doubtful + each.undecided for each in tracks.counts()
    )
    assert total == len(stories)
