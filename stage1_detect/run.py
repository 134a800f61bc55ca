"""Run stage 1 over a data set: one row per photo, and a crop of every photo that can be read.

Three passes, each of which skips what the cache already holds:
1. detect: stat every photo; read the new ones, detect, and crop those whose face is certain;
2. resolve: with all rows known, give every other photo a sibling's or the typical box;
3. recrop: crop the photos without a crop, or with a crop made by another recipe.
A changed crop config runs pass 3 alone; a kill loses at most the open batch.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cropfirst.cache import Cache, CropSet, Manifest
from cropfirst.core.console import say
from cropfirst.core.errors import DetectError
from cropfirst.core.faces.crop import Window
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.crop_sets import choose_weights, crop_set_of, write_provenance
from cropfirst.stage1_detect.mtcnn.engines.choose import slow_engine_note
from cropfirst.stage1_detect.mtcnn.nets.modules import weights_hash
from cropfirst.stage1_detect.mtcnn.retry import RetryingDetector
from cropfirst.stage1_detect.photos.read import PhotoRef, ReadError, may_pass, stat_photo
from cropfirst.stage1_detect.pipeline.batch_writer import BatchWriter
from cropfirst.stage1_detect.pipeline.detect_batches import (
    DetectionResult,
    PendingPhoto,
    detect_batches,
    load_detector,
)
from cropfirst.stage1_detect.pipeline.dispatch import (
    WorkerOptions,
    dispatch_detection,
    dispatch_recrop,
)
from cropfirst.stage1_detect.pipeline.gone_photos import check_gone, find_others
from cropfirst.stage1_detect.pipeline.progress import Progress
from cropfirst.stage1_detect.pipeline.recrop import RecropItem, RecropResult, recrop
from cropfirst.stage1_detect.pipeline.resolve import FaceResolver, MainFace
from cropfirst.stage1_detect.pipeline.rows import NO_SEGMENT, crop_recipe, crop_row, unreadable_row
from cropfirst.stage1_detect.pipeline.summary import DetectSummary

Row = Mapping[str, Any]
COMPILE_SECONDS = 1.5
"""Duration of a warm-up from which on it is reported: it compiles, and does not only load."""


def detect(
    photos: Sequence[PhotoRef],
    cache: Cache,
    config: DetectConfig,
    *,
    device: str = "cpu",
    workers: WorkerOptions | None = None,
    console: Console | None = None,
) -> DetectSummary:
    """Run stage 1 over a data set.

    Args:
        photos: all photos; their keys must differ.
        cache: an open cache; it is locked during the run.
        device: `cpu`, `cuda` or `cuda:N`, already checked; with `workers` also `auto`.
        workers: other processes that do the work; None uses threads of this process.
        console: where progress is shown; None shows none.

    Raises:
        DetectError: there are no photos, two have the same key, or most photos with crops are gone.
        CacheError: the cache is locked, foreign, or cannot be written.
        BackendError: `workers` cannot be used, or their processes keep dying.
    """
    _check_photos(photos)
    started = time.perf_counter()
    with cache.lock():
        config = choose_weights(config, cache)
        detections = cache.detections(config.detection_key(weights_hash(config.detector.weights)))
        crops = crop_set_of(cache, config)
        write_provenance(crops, config, device)
        run = _Run(photos, config, detections, crops, device, workers, console)
        kept = run.run(cache.data_root)
    return run.summarize(time.perf_counter() - started, kept=kept)


def _check_photos(photos: Sequence[PhotoRef]) -> None:
    if not photos:
        raise DetectError("there are no photos: check DATA and --layout")
    twice = [key for key, count in Counter(photo.key for photo in photos).items() if count > 1]
    if twice:
        raise DetectError(f"{len(twice)} keys name more than one photo, e.g. {twice[0]!r}")


class _Run:
    """The rows known so far, and the three passes that complete them."""

    def __init__(
        self,
        photos: Sequence[PhotoRef],
        config: DetectConfig,
        detections: Manifest,
        crops: CropSet,
        device: str,
        workers: WorkerOptions | None,
        console: Console | None,
    ) -> None:
        self.photos, self.config, self.device = photos, config, device
        self.workers, self.console = workers, console
        self.detections, self.crops = detections, crops
        self.rows: dict[str, Row] = {r["key"]: r for r in detections.read().to_dicts()}
        self.crop_rows: dict[str, Row] = {r["key"]: r for r in crops.manifest.read().to_dicts()}
        self.processed, self.missing, self.crops_written, self.changed = 0, 0, 0, False
        self.detect_seconds = 0.0

    def run(self, root: Path | None) -> int:
        """Run the passes; return the number of photos outside of this run whose rows are kept.

        Args:
            root: folder that keys are relative to; None if it is unknown.
        """
        keys = {photo.key for photo in self.photos}
        kept, gone = find_others(self.crop_rows, keys, root)
        writer = BatchWriter(self.detections, self.crops, every=self.config.commit_photos)
        try:
            self._detect(writer, gone)
            self._recrop(self._resolve(writer), writer)
        finally:
            writer.close()
        self.changed = writer.rows > 0
        self.detections.compact()
        self.crops.manifest.compact(keep=keys | kept)
        return len(kept)

    # Pass 1: detect

    def _detect(self, writer: BatchWriter, gone: Collection[str]) -> None:
        missing: dict[str, ReadError] = {}
        pending = list(self._find_pending(missing))
        check_gone(self.crop_rows, {*missing, *gone}, max_missing=self.config.max_missing)
        for key, error in missing.items():
            self._mark_missing(key, error, writer)
        if not pending:
            return
        batches = self._detect_batches(pending)
        with Progress(self.console, "detect", total=len(pending)) as progress, closing(batches):
            for batch in batches:
                writer.add_batch([self._keep(result, writer) for result in batch])
                counts = Counter(result.row["found"] for result in batch)
                del counts["detected"]  # the line shows only what differs from the usual
                progress.advance(len(batch), **counts)
        self.detect_seconds = progress.seconds

    def _find_pending(self, missing: dict[str, ReadError]) -> Iterator[PendingPhoto]:
        """Yield new and changed photos, and those that a passing fault has kept from being read.

        Args:
            missing: gets the keys of the photos that are not there, and why.
        """
        for photo in self.photos:
            known = self.rows.get(photo.key)
            try:
                stat = stat_photo(photo.path)
            except ReadError as error:
                missing[photo.key] = error
                continue
            if (
                known is None
                or (known["size"], known["mtime_ns"]) != (stat.size, stat.mtime_ns)
                or (known["error_type"] is not None and may_pass(known["error_type"]))
            ):
                yield PendingPhoto(photo, stat)

    def _mark_missing(self, key: str, error: ReadError, writer: BatchWriter) -> None:
        """Record a photo that is not there; what was read of it is kept, for when it comes back."""
        self.missing += 1
        row, known = unreadable_row(key, None, error), self.rows.get(key)
        if known is not None and known["size"] >= 0:
            self.rows[key] = row | {"content_hash": known["content_hash"]}
        elif row != known:
            self.rows[key] = row
            writer.add(detection=row)

    def _detect_batches(
        self, pending: Sequence[PendingPhoto]
    ) -> Generator[list[DetectionResult], None, None]:
        if self.workers is not None:
            if self.workers.backend == "loky" and self.device == "cpu":
                self._load_detector()  # compiles once, and not in every process
            return dispatch_detection(
                pending, self.crops, self.config, self.workers, device=self.device
            )
        return detect_batches(
            pending, self.config, device=self.device, detector=self._load_detector()
        )

    def _load_detector(self) -> RetryingDetector:
        """Load the detector, and compile it before the clock of the photos starts."""
        config = self.config
        note = slow_engine_note(config.engine, self.device)
        if note is not None:
            say(self.console, note, style="yellow")
            config = config.model_copy(update={"engine": "torch"})
        detector = load_detector(config, device=self.device)
        if detector.detector.engine.name == "numba":
            text = "compiling the detector for this processor: about 10 s, once per machine"
            notice = threading.Timer(COMPILE_SECONDS, say, (self.console, text))
            notice.start()
            try:
                detector.detector.warm_up()
            finally:
                notice.cancel()
        return detector

    def _keep(self, result: DetectionResult, writer: BatchWriter) -> tuple[Any, Any]:
        """Keep the detection row of a photo, and the crop with its row if it has one."""
        self.processed += 1
        if result.row == self.rows.get(result.ref.key):  # the same fault again
            return None, None
        self.rows[result.ref.key] = result.row
        crop_hash = result.crop_hash
        if result.crop is not None:
            crop_hash = writer.put_crop(result.ref.key, result.crop)
        if crop_hash is None:
            return result.row, None
        face, window = result.face, result.window
        assert face is not None and face.box is not None and window is not None
        return result.row, self._new_crop_row(result.ref, face, face.box, crop_hash, window)

    # Pass 2: resolve

    def _resolve(self, writer: BatchWriter) -> list[RecropItem]:
        """Decide all faces; return the photos to crop, and correct the crop rows of the others."""
        resolver = FaceResolver(self.photos, self.rows, config=self.config.crop)
        items: list[RecropItem] = []
        for photo in self.photos:
            face = resolver.face(photo)
            box = face.box
            if box is not None and self.config.crop.background == "mean_box":
                box = resolver.typical_box(photo.key)
            row, known = self.rows[photo.key], self.crop_rows.get(photo.key)
            if box is not None:
                recipe = crop_recipe(row, face, box, self.config.crop)
                if known is None or known["recipe"] != recipe:
                    items.append(RecropItem(photo, face, box, row["content_hash"]))
                    continue
            wanted = self._same_crop_row(photo, face, known if box is not None else None)
            if known != wanted:
                self.crop_rows[photo.key] = wanted
                writer.add(crop=wanted)
        return items

    # Pass 3: recrop

    def _recrop(self, items: Sequence[RecropItem], writer: BatchWriter) -> None:
        if not items:
            return
        with (
            Progress(self.console, "crop", total=len(items)) as progress,
            closing(self._recrop_results(items, writer)) as results,
        ):
            for result in results:
                item = result.item
                if result.crop_hash is None:
                    self._mark_changed(item.ref, result.error, writer)
                else:
                    assert result.window is not None
                    row = self._new_crop_row(
                        item.ref, item.face, item.box, result.crop_hash, result.window
                    )
                    writer.add(crop=row)
                progress.advance(1, **{item.face.status: 1})

    def _recrop_results(
        self, items: Sequence[RecropItem], writer: BatchWriter
    ) -> Generator[RecropResult, None, None]:
        if self.workers is None:
            yield from recrop(items, self.config, put=writer.put_crop)
            return
        with closing(dispatch_recrop(items, self.crops, self.config, self.workers)) as lists:
            for results in lists:
                yield from results

    def _mark_changed(
        self, photo: PhotoRef, error: tuple[str, str] | None, writer: BatchWriter
    ) -> None:
        """Record a photo that vanished or changed between the passes.

        It gets no crop. If it changed, its detection row becomes one that matches no file, so that
        the next run reads it.
        """
        kind, text = error or ("Changed", "the file changed during the run; run again")
        row = unreadable_row(photo.key, None, ReadError(kind, text))
        is_gone = kind != "Changed" and may_pass(kind)
        known_hash = self.rows[photo.key]["content_hash"]
        self.rows[photo.key] = row | {"content_hash": known_hash} if is_gone else row
        crop = self._same_crop_row(photo, MainFace("unreadable"), None)
        self.crop_rows[photo.key] = crop
        writer.add(detection=None if is_gone else row, crop=crop)

    # Crop rows

    def _new_crop_row(
        self, ref: PhotoRef, face: MainFace, box: np.ndarray, crop_hash: str, window: Window
    ) -> dict[str, Any]:
        """Count a new crop and return its row."""
        self.crops_written += 1
        row = self.rows[ref.key]
        recipe = crop_recipe(row, face, box, self.config.crop)
        made = crop_row(ref, row, face, recipe=recipe, window=window, crop_hash=crop_hash)
        self.crop_rows[ref.key] = made
        return made

    def _same_crop_row(self, photo: PhotoRef, face: MainFace, known: Row | None) -> dict[str, Any]:
        """Return the row of a photo whose crop stays as `known` has it; None for no crop."""
        wanted = crop_row(photo, self.rows[photo.key], face)
        kept = ("recipe", "window", "angle", "crop_hash", "error_type", "error")
        return wanted if known is None else wanted | {name: known[name] for name in kept}

    def summarize(self, seconds: float, *, kept: int) -> DetectSummary:
        crop_rows = [self.crop_rows[photo.key] for photo in self.photos]
        rows = [self.rows[photo.key] for photo in self.photos]
        return DetectSummary(
            photos=len(rows),
            faces=sum(row["n_faces"] for row in rows),
            several_faces=sum(row["n_faces"] > 1 for row in rows),
            statuses=dict(Counter(row["status"] for row in crop_rows)),
            policies=dict(Counter(row["policy"] for row in rows if row["policy"])),
            processed=self.processed,
            missing=self.missing,
            crops_written=self.crops_written,
            kept=kept,
            unsegmented=sum(row["error_type"] == NO_SEGMENT for row in crop_rows),
            changed=self.changed,
            detect_seconds=self.detect_seconds,
            seconds=seconds,
            errors=tuple(
                (row["key"], row["error_type"], row["error"])
                for row in rows
                if row["found"] == "unreadable"
            ),
            crops=self.crops,
        )
