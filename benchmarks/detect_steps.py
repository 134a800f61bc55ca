"""The time of each step of cropfirst's detector, for benchmarks/detect.py."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detect_peers import BATCH, decode

from cropfirst.core.prefetch import in_slices
from cropfirst.stage1_detect.config import DetectorConfig
from cropfirst.stage1_detect.mtcnn import cascade
from cropfirst.stage1_detect.mtcnn.detector import MTCNN
from cropfirst.stage1_detect.mtcnn.engines import torch as torch_engine
from cropfirst.stage1_detect.mtcnn.engines.choose import load_photos
from cropfirst.stage1_detect.pipeline.detect_batches import single_threaded_kernels


@contextmanager
def timed_steps(detector: MTCNN) -> Iterator[dict[str, float]]:
    """Yield the seconds of each step of the cascade, which this thread runs meanwhile.

    Steps are wrapped; the time of a step within another one is counted once.
    """
    spent: dict[str, float] = defaultdict(float)
    pixel = np.zeros((1, 1, 3), dtype=np.uint8)
    photo_batch = type(load_photos([pixel], detector.device))
    steps: list[tuple[Any, str, str]] = [
        *((cascade, name, "NMS") for name in ("nms_iou", "_by_photo")),
        (torch_engine, "fill_canvases", "canvases"),
        *((photo_batch, name, "resize levels") for name in ("resize_strips", "resize_strips_rgb")
          if hasattr(photo_batch, name)),
        (photo_batch, "crop_resize", "cut candidates"),
        *((detector.engine, name, f"{net}-Net")
          for name, net in (("run_pnet", "P"), ("run_rnet", "R"), ("run_onet", "O"))),
    ]  # fmt: skip
    within = [0.0]
    # A GPU's calls return before their work is done.
    wait = torch.cuda.synchronize if detector.device.type == "cuda" else int

    def wrapped(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            wait()
            started = time.perf_counter()
            within.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                wait()
                took = time.perf_counter() - started
                spent[name] += took - within.pop()
                within[-1] += took

        return call

    before = [getattr(owner, name) for owner, name, _ in steps]
    for (owner, name, title), function in zip(steps, before, strict=True):
        setattr(owner, name, wrapped(function, title))
    try:
        yield spent
    finally:
        for (owner, name, _), function in zip(steps, before, strict=True):
            setattr(owner, name, function)


def step_times(
    config: DetectorConfig, device: str, engine: Any, files: Sequence[Path]
) -> dict[str, float]:
    """Return the milliseconds per photo of each step, on one thread, in batches of 16."""
    detector = MTCNN(config, device=device, engine=engine, threads=1)
    with single_threaded_kernels():
        started = time.perf_counter()
        photos = [decode(file) for file in files]
        decoding = time.perf_counter() - started
        batches = list(in_slices(photos, BATCH))
        for batch in batches:  # photos of a new shape have their levels planned
            detector.detect_batch(batch)
        with timed_steps(detector) as spent:
            started = time.perf_counter()
            for batch in batches:
                detector.detect_batch(batch)
            total = time.perf_counter() - started
    spent = {"decode": decoding, **spent, "all else": total - sum(spent.values())}
    return {name: seconds / len(photos) * 1e3 for name, seconds in spent.items()}
