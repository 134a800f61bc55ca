"""Speed of training: the data path against the usual one, the wait for the loader, the step.

    python benchmarks/train.py PHOTOS... [--limit 200] [--rounds 3] [--device cpu] [--json FILE]

PHOTOS are folders or files; without any, portraits are drawn. All variants are measured in one
process in turn (A B A B ...), so that a drifting clock rate does not favour one. The peers are:

- data path: the usual Dataset of such projects: open the JPEG, CenterCrop (or facenet-pytorch's
  MTCNN, photo by photo), resize, an albumentations list with the changes of `basic`, every epoch.
  In cropfirst, light and contrast are part of the normalisation, so only of the second table.
- step: the loop of timm's train.py, written here with timm's optimizer, scheduler and clipping,
  because the package does not contain the script.

Quote ratios; rates depend on the machine and its load.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import click
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from photo_files import list_files
from PIL import Image
from rich.console import Console
from rich.table import Table

from cropfirst.cache import Cache, CropSet
from cropfirst.core.device import resolve_amp, resolve_device
from cropfirst.stage2_classify.config import LossConfig, OptimConfig
from cropfirst.stage2_classify.data.augment import Augmenter
from cropfirst.stage2_classify.data.crop_dataset import CropDataset, make_loader
from cropfirst.stage2_classify.data.crop_source import CropSource, Preload
from cropfirst.stage2_classify.data.prefetcher import DeviceBatch, Prefetcher
from cropfirst.stage2_classify.data.sampling import EpochSampler
from cropfirst.stage2_classify.model.criterion import plain_criterion
from cropfirst.stage2_classify.model.models import Classifier, build_classifier
from cropfirst.stage2_classify.progress import TrainProgress
from cropfirst.stage2_classify.train.epochs import train_one_epoch
from cropfirst.stage2_classify.train.train_state import build_train_state

Run = Callable[[], int]
"""Does the work once, and returns the number of crops or steps."""
CLASSES = 3
SIDE = 320
"""Side of the usual CenterCrop in pixels; the photos' shorter side if that is less."""


def peer_transforms(size: int, *, to_tensor: bool) -> A.Compose:
    """Return the usual transforms: resize, the changes of `basic`, and perhaps normalise."""
    end = [A.Normalize(), ToTensorV2()] if to_tensor else []
    return A.Compose(
        [
            A.Resize(size, size),
            A.HorizontalFlip(p=0.5),
            A.Affine(
                scale=(0.9, 1.1),
                translate_percent=(-0.06, 0.06),
                rotate=(-12, 12),
                border_mode=cv2.BORDER_REFLECT_101,
                p=0.5,
            ),
            A.RandomBrightnessContrast(p=0.5),
            *end,
        ]
    )


def center_crop(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    side = min(SIDE, *pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


def mtcnn_crop() -> Callable[[Image.Image], np.ndarray]:
    """Return a crop by facenet-pytorch's MTCNN inside the Dataset, as one contest's winner did."""
    from facenet_pytorch import MTCNN

    detector = MTCNN(image_size=SIDE, margin=80, post_process=False)

    def crop(image: Image.Image) -> np.ndarray:
        face = detector(image)
        if face is None:
            return center_crop(image)
        return face.permute(1, 2, 0).clamp(0, 255).byte().numpy()

    return crop


def peer_path(
    files: Sequence[Path], crop: Callable[[Image.Image], np.ndarray], transforms: A.Compose
) -> Run:
    def run() -> int:
        for start in range(0, len(files), 32):
            images = []
            for path in files[start : start + 32]:
                with Image.open(path) as image:
                    images.append(transforms(image=crop(image.convert("RGB")))["image"])
            torch.stack([torch.as_tensor(image) for image in images])
        return len(files)

    return run


def own_path(
    crops: CropSet,
    keys: Sequence[str],
    model: Classifier,
    *,
    preload: Preload,
    to_input: bool,
    params_only: bool = False,
) -> Run:
    """Return the path from the cache to augmented batches, or to the network's input.

    Args:
        preload: where the crops are held.
        to_input: also normalise; always done on a GPU.
        params_only: leave augmentation to the device.
    """
    device = model.mean.device
    on_gpu = device.type == "cuda"
    source = CropSource(crops, keys, preload=preload, device=device)
    dataset = CropDataset(
        source,
        {"task": np.zeros(len(keys), np.int64)},
        augmenter=Augmenter(("basic",)),
        seed=(0, 0),
        params_only=params_only,
        reuse=not on_gpu,
    )
    sampler = EpochSampler(np.arange(len(keys)), batch_size=32, seed=(0, 0))
    loader = make_loader(dataset, sampler, workers=0, device=device)
    batches = Prefetcher(model, loader, source.on_device, reuse=not on_gpu)

    def run() -> int:
        sampler.epoch += 1
        for batch in batches.loader:
            if to_input or on_gpu:
                batches.prepare(batch)
        if on_gpu:
            torch.cuda.synchronize()
        return len(keys)

    return run


def cut_crops(files: Sequence[Path], folder: Path, size: int) -> tuple[CropSet, list[str]]:
    """Write the centres of the photos as a crop set, as detect does."""
    crops = Cache.open(folder / "cache", create=True).crop_set("center-x", {"image_size": size})
    with crops.writer() as writer:
        for number, path in enumerate(files):
            with Image.open(path) as image:
                pixels = cv2.resize(center_crop(image.convert("RGB")), (size, size))
            writer.put(str(number), pixels)
    return crops, [str(number) for number in range(len(files))]


def measure(runs: Mapping[str, Run], rounds: int) -> dict[str, float]:
    """Return the median seconds per crop or step of each, run in turn after one warm-up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            count = run()
            found[name].append((time.perf_counter() - started) / count)
    return {name: statistics.median(values) for name, values in found.items()}


def step_batches(
    model: Classifier, device: torch.device, *, batch: int, size: int, steps: int
) -> list[DeviceBatch]:
    random = torch.Generator().manual_seed(0)
    crops = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, generator=random)
    with torch.no_grad():
        images = model.prepare(crops)
    targets = (torch.arange(batch) % CLASSES).to(device)
    return [DeviceBatch(images, {"task": targets})] * steps


def own_step(model: Classifier, batches: list[DeviceBatch], optim: OptimConfig, amp: Any) -> Run:
    criterion = plain_criterion({"task": model.head("task")}).to(model.mean.device)
    state = build_train_state(
        model, optim, batches_per_epoch=len(batches), amp=amp, criterion=criterion
    )

    def run() -> int:
        with TrainProgress(None, total=1) as progress:
            train_one_epoch(state, batches, first_update=0, progress=progress)  # type: ignore[arg-type]
        return len(batches)

    return run


def peer_step(
    name: str,
    batches: list[DeviceBatch],
    optim: OptimConfig,
    amp: Any,
    size: int,
    *,
    compiled: bool = False,
) -> Run:
    """Return a step of timm's training loop, with timm's parts."""
    import timm
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter, dispatch_clip_grad

    device = batches[0].images.device
    options = {"img_size": size} if "swin" in name or "vit" in name else {}
    model = timm.create_model(name, num_classes=CLASSES, **options).to(device)
    model = model.to(memory_format=torch.channels_last)
    if compiled:
        model.compile()
    optimizer = create_optimizer_v2(
        model, opt=optim.optimizer, lr=optim.lr, weight_decay=optim.weight_decay
    )
    scheduler, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=10, step_on_epochs=False, updates_per_epoch=len(batches)
    )
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=LossConfig().label_smoothing)

    def run() -> int:
        model.train()
        losses = AverageMeter()
        for step, (images, targets, _) in enumerate(batches):
            with torch.autocast(device.type, dtype=amp) if amp else nullcontext():
                loss = criterion(model(images), targets["task"])
            optimizer.zero_grad()
            loss.backward()
            dispatch_clip_grad(model.parameters(), optim.clip_grad, mode="norm")
            optimizer.step()
            scheduler.step_update(step)
            if step % 10 == 0:
                losses.update(loss.item(), len(images))
        if device.type == "cuda":
            torch.cuda.synchronize()
        return len(batches)

    return run


def loader_share(
    model: Classifier, crops: CropSet, keys: Sequence[str], device: torch.device, amp: Any,
    *, batch: int, seconds: float,
) -> tuple[float, str]:  # fmt: skip
    """Return the share of an epoch that training waits for its loader, and where crops are held."""
    from cropfirst.stage2_classify.data.crop_dataset import choose_workers

    on_gpu = device.type == "cuda"
    source = CropSource(crops, keys, preload="auto", device=device)
    dataset = CropDataset(
        source,
        {"task": np.arange(len(keys)) % CLASSES},
        augmenter=Augmenter(("basic",)),
        seed=(0, 0),
        params_only=on_gpu,
    )
    sampler = EpochSampler(np.arange(len(keys)), batch_size=batch, seed=(0, 0))
    workers = choose_workers(None, n_photos=len(keys), device=device)
    loader = make_loader(dataset, sampler, workers=workers, device=device)
    batches = Prefetcher(model, loader, source.on_device, reuse=not on_gpu)
    criterion = plain_criterion({"task": model.head("task")}).to(model.mean.device)
    state = build_train_state(
        model, OptimConfig(), batches_per_epoch=len(loader), amp=amp, criterion=criterion
    )
    waited = total = 0.0
    while total < seconds:
        started = time.perf_counter()
        with TrainProgress(None, total=1) as progress:
            train_one_epoch(state, batches, first_update=0, progress=progress)
        waited, total = waited + batches.wait_seconds, total + time.perf_counter() - started
    return waited / total, "the GPU's memory" if source.on_device is not None else "RAM"


def ways_of(device: torch.device) -> list[tuple[str, Preload, bool]]:
    """Return where crops may be held, and whether the device augments."""
    if device.type == "cuda":
        return [
            ("LMDB, augmented on the GPU", "none", True),
            ("RAM, augmented on the GPU", "ram", True),
            ("GPU's memory", "device", True),
        ]
    return [
        ("LMDB", "none", False),
        ("RAM", "ram", False),
        ("LMDB, the CPU's part for a GPU", "none", True),
    ]


def show(console: Console, title: str, rates: Mapping[str, float], against: str, unit: str) -> None:
    table = Table("", unit + "/s", f"ms a {unit}", f"times {against}")
    for name, value in rates.items():
        ratio = rates[against] / value
        table.add_row(name, f"{1 / value:.1f}", f"{value * 1e3:.3f}", f"{ratio:.2f}")
    console.print(title, highlight=False)
    console.print(table)


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--limit", default=192, show_default=True, help="Photos at most, spread evenly.")
@click.option(
    "--mtcnn-limit", default=12, show_default=True, help="Photos through MTCNN; 0 = none."
)
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Of torch; OpenCV has one.")
@click.option("--model", "name", default="resnet18", show_default=True, help="timm's name.")
@click.option("--size", default=224, show_default=True, help="Side of the crops in pixels.")
@click.option("--batch", default=16, show_default=True, help="Crops in a step.")
@click.option("--steps", default=3, show_default=True, help="Steps in a round.")
@click.option("--loader-seconds", default=10.0, show_default=True, help="At least.")
@click.option("--amp", type=click.Choice(["auto", "off", "bf16", "fp16"]), default="auto")
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    photos: tuple[Path, ...], limit: int, mtcnn_limit: int, rounds: int, threads: int, name: str,
    size: int, batch: int, steps: int, loader_seconds: float, amp: Any, device: str,
    out: Path | None,
) -> None:  # fmt: skip
    """Measure the data path, the wait for the loader and the step on PHOTOS."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    place = resolve_device(device)
    dtype = resolve_amp(amp, place)
    chip = torch.cuda.get_device_name(place) if place.type == "cuda" else platform.machine()
    where = f"{place} ({chip}), torch {torch.__version__}, {threads} threads"
    console = Console(width=110)
    model = build_classifier(name, {"task": CLASSES}, image_size=size).to(place)
    model.set_channels_last(True)
    with tempfile.TemporaryDirectory() as folder:
        files = list_files(photos, limit, Path(folder), suffixes={".jpg", ".jpeg"})
        console.print(f"{len(files)} photos, {name}, {size} px, {where}", highlight=False)
        crops, keys = cut_crops(files, Path(folder), size)
        figures: dict[str, Any] = {"device": where, "photos": len(files), "model": name}
        for title, to_tensor in (("to moved uint8", False), ("to the network's input", True)):
            transforms = peer_transforms(size, to_tensor=to_tensor)
            runs = {
                "JPEG, CenterCrop": peer_path(files, center_crop, transforms),
            }
            if mtcnn_limit and not to_tensor:  # measured once: normalising is nothing beside it
                runs["JPEG, MTCNN"] = peer_path(files[:mtcnn_limit], mtcnn_crop(), transforms)
            for label, preload, params_only in ways_of(place):
                runs[label] = own_path(
                    crops, keys, model, preload=preload, to_input=to_tensor, params_only=params_only
                )
            if to_tensor and place.type == "cpu":  # of no use without the device's part
                del runs["LMDB, the CPU's part for a GPU"]
            rates = measure(runs, rounds)
            figures[title] = rates
            show(console, f"data path, {title}, 1 process", rates, "JPEG, CenterCrop", "crop")
        share, where_crops = loader_share(
            model, crops, keys, place, dtype, batch=batch, seconds=loader_seconds
        )
        figures["loader_share"] = share
        console.print(f"waiting for the loader: {share:.1%} of an epoch, crops in {where_crops}")
    optim = OptimConfig()
    batches = step_batches(model, place, batch=batch, size=size, steps=steps)
    steps_taken = measure(
        {
            "timm's loop": peer_step(name, batches, optim, dtype, size),
            "cropfirst": own_step(model, batches, optim, dtype),
        },
        rounds,
    )
    figures["step"] = {"batch": batch, "precision": str(dtype or torch.float32), **steps_taken}
    show(console, f"step of {batch} crops, {dtype or torch.float32}", steps_taken,
         "timm's loop", "step")  # fmt: skip
    if out is not None:
        out.write_text(json.dumps(figures, indent=2))
        console.print(f"figures: {out}", highlight=False)


if __name__ == "__main__":
    main()
