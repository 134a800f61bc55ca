"""The stage: every photo in, exactly one row out, and a crop wherever the photo can be read.

Three passes, each of which skips what the cache already holds:
1. look: stat every photo; read, detect and, where the face is the photo's own, crop the new ones;
2. resolve: with all rows known, give the rest a sibling's or the typical box;
3. cut: crop what is not there yet or was cut by another recipe.
A changed crop config runs pass 3 alone; a kill loses at most the open commit.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cropfirst.cache import Cache, CropSet, Manifest, crop_set_name
from cropfirst.core.console import say
from cropfirst.core.errors import DetectError
from cropfirst.core.files import write_atomic
from cropfirst.core.fingerprint import fingerprint
from cropfirst.core.provenance import describe_versions, git_commit
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.crops.crop import Window
from cropfirst.stage1_detect.mtcnn.engines.choose import slow_engine_note
from cropfirst.stage1_detect.mtcnn.nets.modules import SHIPPED, weights_hash
from cropfirst.stage1_detect.photos.read import TOO_LARGE, FileStat, PhotoRef, ReadError, stat_photo
from cropfirst.stage1_detect.pipeline.commits import Commits
from cropfirst.stage1_detect.pipeline.detect_batches import Look, look_at_all, make_finder
from cropfirst.stage1_detect.pipeline.dispatch import Workers, cut_all_dealt, look_at_all_dealt
from cropfirst.stage1_detect.pipeline.progress import Progress
from cropfirst.stage1_detect.pipeline.recrop import Cut, ToCut, cut_all
from cropfirst.stage1_detect.pipeline.resolve import Face, Resolver
from cropfirst.stage1_detect.pipeline.rows import NO_SEGMENT, crop_recipe, crop_row, unreadable_row
from cropfirst.stage1_detect.pipeline.summary import DetectSummary

Row = Mapping[str, Any]
_COMPILED = 2.0
"""Seconds from which on a warm-up is told: it was no mere loading."""


def detect(
    photos: Sequence[PhotoRef],
    cache: Cache,
    config: DetectConfig,
    *,
    device: str = "cpu",
    workers: Workers | None = None,
    console: Console | None = None,
) -> DetectSummary:
    """Run stage 1 over a data set.

    Args:
        photos: every photo once; keys must differ.
        cache: an open cache; it is locked for the length of the run.
        device: `cpu`, `cuda` or `cuda:N`, already checked; with `workers` also `auto`.
        workers: other processes that do the work; None = threads of this one.
        console: where progress is shown; None = nowhere.

    Raises:
        DetectError: no photos, or two with one key.
        CacheError: the cache is locked, foreign, or cannot be written.
        BackendError: `workers` cannot be had, or keep dying.
    """
    _check_photos(photos)
    started = time.perf_counter()
    with cache.lock():
        detections = cache.detections(config.detection_key(weights_hash(config.detector.weights)))
        crops = crop_set_of(cache, config)
        _write_provenance(crops, config, device)
        stage = _Stage(
            photos, config, detections, crops, device=device, workers=workers, console=console
        )
        stage.run()
    return stage.summary(time.perf_counter() - started)


def crop_set_of(cache: Cache, config: DetectConfig) -> CropSet:
    """The crop set that a config fills, made if there is none."""
    key = config.crop_key(weights_hash(config.detector.weights))
    name = crop_set_name(config.crop.background, config.crop.image_size, fingerprint(key))
    return cache.crop_set(name, key)


def config_of_crops(crop_key: Row) -> DetectConfig:
    """The config that makes crops like those of a crop set, from the set's own config.

    Raises:
        DetectError: the crops were made with weights that are not shipped (a crop set knows their
            hash alone), or by another version.
    """
    try:
        detection = dict(crop_key["detection"])
        wanted = detection["detector"]["weights"]
        weights = next((name for name in SHIPPED if weights_hash(name) == wanted), SHIPPED[0])
        detection["detector"] = {**detection["detector"], "weights": weights}
        config = DetectConfig.model_validate({**detection, "crop": crop_key["crop"]})
    except (KeyError, TypeError, ValueError) as error:
        raise DetectError(f"the crops' config is not one of this version: {error}") from error
    if wanted != weights_hash(weights):
        raise DetectError(
            f"the crops were made with other detector weights than {' or '.join(SHIPPED)}: "
            "run cli.py detect DATA --weights FILE, then predict DATA"
        )
    return config


def config_made_with(crops: Path) -> DetectConfig:
    """The config of the last run over a crop set's folder, as it is kept beside the crops.

    Raises:
        DetectError: nothing readable is, or it is not of this version.
    """
    try:
        made_by = json.loads((crops / "made_by.json").read_bytes())
        return DetectConfig.model_validate(made_by["config"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        pass
    try:
        return config_of_crops(json.loads((crops / "config.json").read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise DetectError(
            f"{crops} does not say how its crops were made ({error}): run cli.py detect DATA with "
            "their settings"
        ) from error


def _write_provenance(crops: CropSet, config: DetectConfig, device: str) -> None:
    """Beside the crops, before work starts: the whole config and what the last run ran with."""
    made_by = {
        "config": config.model_dump(mode="json"),
        "device": device,
        "versions": describe_versions(
            "torch", "torchvision", "numba", "opencv-python-headless", "numpy"
        ),
        "git_commit": git_commit(),
    }
    write_atomic(crops.folder / "made_by.json", json.dumps(made_by, indent=2).encode())


def _check_photos(photos: Sequence[PhotoRef]) -> None:
    if not photos:
        raise DetectError("there are no photos to look at: check DATA and --layout")
    twice = [key for key, count in Counter(photo.key for photo in photos).items() if count > 1]
    if twice:
        raise DetectError(f"{len(twice)} keys name more than one photo, e.g. {twice[0]!r}")


class _Stage:
    """One run: holds the rows known so far and takes them through the three passes."""

    def __init__(
        self,
        photos: Sequence[PhotoRef],
        config: DetectConfig,
        detections: Manifest,
        crops: CropSet,
        *,
        device: str,
        workers: Workers | None,
        console: Console | None,
    ) -> None:
        self.workers = workers
        self.photos, self.config, self.device, self.console = photos, config, device, console
        self.detections, self.crops = detections, crops
        self.rows: dict[str, Row] = {r["key"]: r for r in detections.read().to_dicts()}
        self.crop_rows: dict[str, Row] = {r["key"]: r for r in crops.manifest.read().to_dicts()}
        self.looked = 0
        self.cut, self.changed = 0, False

    def run(self) -> None:
        commits = Commits(self.detections, self.crops, every=self.config.commit_photos)
        try:
            self._look(commits)
            self._cut(commits)
        finally:
            commits.close()
        self.changed = commits.rows > 0
        self.detections.compact()
        self.crops.manifest.compact(keep={photo.key for photo in self.photos})

    # Pass 1: look

    def _look(self, commits: Commits) -> None:
        new = list(self._changed(commits))
        if not new:
            return
        looks = self._looks(new)
        with Progress(self.console, "detect", total=len(new)) as progress, closing(looks):
            for batch in looks:
                self._keep(batch, commits)
                found = Counter(look.row["found"] for look in batch)
                del found["detected"]  # what is plainly well needs no room in the line
                progress.advance(len(batch), **found)

    def _looks(self, new: Sequence[tuple[PhotoRef, FileStat]]) -> Generator[list[Look], None, None]:
        if self.workers is None:
            config = self.config
            note = slow_engine_note(config.engine, self.device)
            if note is not None:
                say(self.console, note, style="yellow")
                config = config.model_copy(update={"engine": "torch"})
            finder = make_finder(config, device=self.device)
            # The only engine that compiles, and only once: before the photos' clock starts.
            if finder.detector.engine.name == "numba":
                took = finder.detector.warm_up()
                if took > _COMPILED:
                    say(
                        self.console, f"compiled for this processor in {took:.0f} s, once a machine"
                    )
            return look_at_all(new, self.config, device=self.device, finder=finder)
        return look_at_all_dealt(new, self.crops, self.config, self.workers, device=self.device)

    def _keep(self, batch: Sequence[Look], commits: Commits) -> None:
        rows: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
        for look in batch:
            self.looked += 1
            self.rows[look.ref.key] = look.row
            crop, crop_hash = None, look.crop_hash
            if look.crop is not None:
                crop_hash = commits.put_crop(look.ref.key, look.crop)
            if crop_hash is not None:
                assert look.face is not None and look.window is not None
                crop = self._crop_row(look.ref, look.face, crop_hash, look.window)
            rows.append((look.row, crop))
        commits.add_batch(rows)

    def _changed(self, commits: Commits) -> Iterator[tuple[PhotoRef, FileStat]]:
        """Photos whose size or time differs from their row's; photos gone get their row here."""
        for photo in self.photos:
            known = self.rows.get(photo.key)
            try:
                stat = stat_photo(photo.path)
            except ReadError as error:
                row = unreadable_row(photo.key, None, error)
                if row != known:
                    self.rows[photo.key] = row
                    commits.add(detection=row, crop=None)
                continue
            if (
                known is None
                or (known["size"], known["mtime_ns"]) != (stat.size, stat.mtime_ns)
                or known["error_type"] == TOO_LARGE  # there may be more memory today
            ):
                yield photo, stat

    # Passes 2 and 3: resolve, cut

    def _cut(self, commits: Commits) -> None:
        resolver = Resolver(self.photos, self.rows, config=self.config.crop)
        todo: list[ToCut] = []
        for photo in self.photos:
            face, box = self._face_and_box(photo, resolver)
            row = self.rows[photo.key]
            recipe = "" if box is None else crop_recipe(row, face, box, self.config.crop)
            known = self.crop_rows.get(photo.key)
            if box is not None and (known is None or known["recipe"] != recipe):
                todo.append(ToCut(photo, face, box, row["content_hash"]))
                continue
            # The pixels stand; what is said of them may still have changed.
            wanted = self._same_crop(photo, face, known if box is not None else None)
            if known != wanted:
                self.crop_rows[photo.key] = wanted
                commits.add(crop=wanted)
        self._cut_all(todo, commits)

    def _face_and_box(self, photo: PhotoRef, resolver: Resolver) -> tuple[Face, np.ndarray | None]:
        face = resolver.face(photo)
        if face.box is not None and self.config.crop.background == "mean_box":
            return face, resolver.typical_box(photo.key)
        return face, face.box

    def _cut_all(self, todo: Sequence[ToCut], commits: Commits) -> None:
        if not todo:
            return
        with (
            Progress(self.console, "crop", total=len(todo)) as progress,
            closing(self._cuts(todo, commits)) as cuts,
        ):
            for cut in cuts:
                ref, face = cut.todo.ref, cut.todo.face
                if cut.crop_hash is None:
                    self._changed_under_way(ref, cut.error, commits)
                else:
                    assert cut.window is not None
                    row = self._crop_row(ref, face, cut.crop_hash, cut.window, box=cut.todo.box)
                    commits.add(crop=row)
                progress.advance(1, **{face.status: 1})

    def _cuts(self, todo: Sequence[ToCut], commits: Commits) -> Generator[Cut, None, None]:
        if self.workers is not None:
            with closing(cut_all_dealt(todo, self.crops, self.config, self.workers)) as cuts:
                for some in cuts:
                    yield from some
            return
        yield from cut_all(todo, self.config, put=commits.put_crop)

    def _crop_row(
        self,
        ref: PhotoRef,
        face: Face,
        crop_hash: str,
        window: Window,
        *,
        box: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """The row of a crop that was handed over to be written, or is written.

        Args:
            box: what was cut out, where it is not the face's own.
        """
        row, where = self.rows[ref.key], face.box if box is None else box
        assert where is not None
        self.cut += 1
        made = crop_row(
            ref,
            row,
            face,
            recipe=crop_recipe(row, face, where, self.config.crop),
            window=window,
            crop_hash=crop_hash,
        )
        self.crop_rows[ref.key] = made
        return made

    def _changed_under_way(
        self, photo: PhotoRef, fault: tuple[str, str] | None, commits: Commits
    ) -> None:
        """A photo that vanished or changed between the passes: no crop now, looked at again next
        time (its detection row is made to match no file)."""
        error = ReadError(*(fault or ("Changed", "the file changed during the run; run again")))
        row = unreadable_row(photo.key, None, error)
        self.rows[photo.key] = row
        wanted = self._same_crop(photo, Face("unreadable"), None)
        self.crop_rows[photo.key] = wanted
        commits.add(detection=row, crop=wanted)

    def _same_crop(self, photo: PhotoRef, face: Face, known: Row | None) -> dict[str, Any]:
        """The row of a crop that is there already (or, without `known`, of no crop)."""
        wanted = crop_row(photo, self.rows[photo.key], face)
        kept = ("recipe", "window", "angle", "crop_hash", "error_type", "error")
        return wanted if known is None else wanted | {name: known[name] for name in kept}

    # Summary

    def summary(self, seconds: float) -> DetectSummary:
        rows = [self.crop_rows[photo.key] for photo in self.photos]
        looks = [self.rows[photo.key] for photo in self.photos]
        return DetectSummary(
            photos=len(rows),
            faces=sum(row["n_faces"] for row in looks),
            statuses=dict(Counter(row["status"] for row in rows)),
            policies=dict(Counter(row["policy"] for row in looks if row["policy"])),
            looked=self.looked,
            cut=self.cut,
            unsegmented=sum(row["error_type"] == NO_SEGMENT for row in rows),
            changed=self.changed,
            seconds=seconds,
            errors=tuple(
                (row["key"], row["error_type"], row["error"])
                for row in looks
                if row["found"] == "unreadable"
            ),
            crops=self.crops,
        )
