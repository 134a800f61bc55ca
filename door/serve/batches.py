"""Micro-batches: images of several requests go through the bundle together.

While the bundle is at work, requests gather; the next batch takes what has come. Nobody waits for a
batch to fill. Images are decoded with their batch, so that waiting ones hold bytes alone. Two
batches are at work at the same time, since one alone does not keep two cores busy.
No torch.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cropfirst.core.decode import EncodedImage
from cropfirst.core.text import count_of
from cropfirst.door.bundle import Bundle
from cropfirst.door.faces import Face
from cropfirst.door.serve.limits import RefusedError, ServeLimits
from cropfirst.door.serve.uploads import decode_upload


@dataclass(frozen=True)
class Answer:
    """The answer about one image."""

    width: int
    """Width of the upright image in pixels."""
    height: int
    faces: list[Face]


@dataclass(eq=False)
class _Job:
    image: EncodedImage
    result: asyncio.Future[Answer | RefusedError]

    @property
    def pixels(self) -> int:
        return self.image.size[0] * self.image.size[1]


class Batcher:
    """Answers images in the order in which they came."""

    def __init__(
        self, bundle: Bundle, limits: ServeLimits, *, on_batch: Callable[[int, float], None]
    ) -> None:
        """Prepare; `on_batch` gets the number of images and the seconds of each batch."""
        self._bundle, self._limits, self._on_batch = bundle, limits, on_batch
        self._waiting: deque[_Job] = deque()
        self._has_work = asyncio.Event()
        self._pool = ThreadPoolExecutor(limits.max_batches, thread_name_prefix="bundle")

    async def answer(self, images: Sequence[EncodedImage]) -> list[Answer | RefusedError]:
        """Return the answer about each image, or why there is none.

        Raises:
            RefusedError: it took too long.
        """
        loop = asyncio.get_running_loop()
        jobs = [_Job(image, loop.create_future()) for image in images]
        self._waiting.extend(jobs)
        self._has_work.set()
        try:
            return await asyncio.wait_for(
                asyncio.gather(*(job.result for job in jobs)), self._limits.max_seconds
            )
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise RefusedError(
                504, "too_slow", f"there was no answer within {self._limits.max_seconds:g} s"
            ) from error
        finally:
            for job in jobs:
                job.result.cancel()  # of a client that has gone, or waits no longer

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            await asyncio.gather(*(self._run_one() for _ in range(self._limits.max_batches)))
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run_one(self) -> None:
        """Work on one batch after the other."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_work.wait()
            batch = self._next_batch()
            if not batch:
                self._has_work.clear()
                continue
            began = time.perf_counter()
            work = loop.run_in_executor(self._pool, self._work, [job.image for job in batch])
            try:
                results: Sequence[Answer | RefusedError] = await work
            except Exception as error:
                for job in batch:
                    if not job.result.done():
                        job.result.set_exception(error)
                continue
            self._on_batch(len(batch), time.perf_counter() - began)
            for job, result in zip(batch, results, strict=True):
                if not job.result.done():
                    job.result.set_result(result)

    def _next_batch(self) -> list[_Job]:
        """Take waiting images, up to the limits of a batch; those nobody waits for are dropped."""
        batch: list[_Job] = []
        pixels = 0
        while self._waiting and len(batch) < self._limits.max_batch:
            job = self._waiting[0]
            if not job.result.done():
                pixels += job.pixels
                if batch and pixels > self._limits.max_megapixels * 1e6:
                    break
                batch.append(job)
            self._waiting.popleft()
        return batch

    def _work(self, images: Sequence[EncodedImage]) -> list[Answer | RefusedError]:
        photos: list[np.ndarray] = []
        found: list[list[Face]] = []
        results: list[Answer | RefusedError] = []
        for image in images:
            try:
                photo = decode_upload(image, self._limits)
                faces = self._bundle.detect(photo)
                if len(faces) > self._limits.max_faces:
                    raise RefusedError(
                        422, "too_many_faces",
                        f"the image has {count_of(len(faces), 'face')}, the limit is "
                        f"{self._limits.max_faces}",
                    )  # fmt: skip
            except RefusedError as refusal:
                results.append(refusal)
                continue
            results.append(Answer(photo.shape[1], photo.shape[0], []))
            photos.append(photo)
            found.append(faces)
        answered = iter(self._bundle.classify_batch(photos, found))
        for result in results:
            if isinstance(result, Answer):
                result.faces.extend(next(answered))
        return results
