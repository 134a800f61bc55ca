"""`watch`: what a camera or video shows, as events. No torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from cropfirst.core.stopping import Terminated, exit_code

if TYPE_CHECKING:
    from cropfirst.door.watch.watch import Outputs

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--bundle", type=FOLDER, required=True, help="Folder that export wrote.")
@click.option("--task", metavar="TASK", help="Task to follow.  [default: mask, else the first]")
@click.option(
    "--alarm", multiple=True, metavar="CLASS",
    help="Class that causes an alarm; can be repeated.  [default: normal and incorrect]",
)  # fmt: skip
@click.option("--out", type=FILE, help="File to add the events to.  [default: standard output]")
@click.option("--video", type=FILE, help="Also write an annotated video, .mp4 or .avi.")
@click.option("--webhook", multiple=True, metavar="URL", help="Also send each event as a POST.")
@click.option("--keep-doubtful", type=FOLDER, help="Keep a crop of each doubtful track, to label.")
@click.option(
    "--days", type=click.FloatRange(min=0, min_open=True), default=30, show_default=True,
    help="With --keep-doubtful: days after which a crop is deleted.",
)  # fmt: skip
@click.option(
    "--every", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
    help="Use one frame in N of a file or folder.",
)  # fmt: skip
@click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), default=10, show_default=True,
    help="Frames per second of a folder of pictures.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: one per core]")
def watch(
    source: str, bundle: Path, task: str | None, alarm: Sequence[str], out: Path | None,
    video: Path | None, webhook: Sequence[str], keep_doubtful: Path | None, days: float,
    every: int, fps: float, threads: int | None,
) -> None:  # fmt: skip
    """Say who is in front of a camera, as events.

    SOURCE is a video file or GIF, a folder of pictures (one camera's frames in the order of their
    names), the number of a camera, or the URL of a stream (rtsp, http). Each event is a line of
    JSON; docs/door.md explains them. Of a camera or stream, only the newest frame is looked at, and
    a lost one is opened again until Ctrl-C. No picture is stored unless --video or --keep-doubtful
    asks for it. Ends with a summary.
    """
    from cropfirst.door.bundle import Bundle
    from cropfirst.door.sightings import choose_task, start_tracks
    from cropfirst.door.watch.sources import open_source
    from cropfirst.door.watch.watch import Watch

    opened = Bundle.open(bundle, threads=threads)
    chosen = choose_task(opened, task)
    tracks = start_tracks(opened, chosen, alarm_classes=alarm or None)
    frames = open_source(source, every=every, fps=fps)
    code = 0
    with _outputs(out, video, webhook, keep_doubtful, days, chosen, alarm) as outputs:
        watched = Watch(opened, chosen, tracks, outputs)
        try:
            watched.run(frames)
        except (KeyboardInterrupt, Terminated) as stop:
            code = exit_code(stop)
        finally:
            summary = watched.close(frames)
    click.echo(summary.as_text(), err=True)
    click.get_current_context().exit(code)


@contextmanager
def _outputs(
    out: Path | None, video: Path | None, webhooks: Sequence[str], keep_doubtful: Path | None,
    days: float, task: str, alarm: Sequence[str],
) -> Iterator[Outputs]:  # fmt: skip
    from cropfirst.door.tracks import TrackSettings
    from cropfirst.door.watch.annotate import AnnotatedVideo
    from cropfirst.door.watch.doubtful import DoubtfulCrops
    from cropfirst.door.watch.watch import Outputs
    from cropfirst.door.watch.webhook import Webhook

    lines: TextIO = sys.stdout if out is None else out.open("a", encoding="utf-8")
    try:
        yield Outputs(
            lines,
            [Webhook(url) for url in webhooks],
            None if video is None else
            AnnotatedVideo(video, alarm_classes=alarm or TrackSettings.alarm_classes),
            None if keep_doubtful is None else DoubtfulCrops(keep_doubtful, task, days=days),
        )  # fmt: skip
    finally:
        if out is not None:
            lines.close()
