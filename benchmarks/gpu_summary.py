"""The figures of benchmarks/gpu.py as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Figures = Mapping[str, Any]


def write_summary(out: Path) -> None:
    """Write OUT/summary.md from the figures that are there."""
    parts = []
    for name, section in (("parity", _parity), ("detect", _detect), ("train", _train),
                          ("compile", _train)):  # fmt: skip
        file = out / f"{name}.json"
        if file.is_file():
            figures = json.loads(file.read_text())
            told = f"{figures.pop('device')}, {figures.pop('seconds'):.0f} s"
            parts.append(f"## {name}\n\n{told}\n\n" + section(figures))
    (out / "summary.md").write_text("\n".join(parts))


def _table(head: str, rows: list[list[Any]]) -> str:
    names = head.split(" | ")
    lines = [f"| {head} |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _parity(figures: Figures) -> str:
    names = ("faces", "matched", "extra", "box_px", "prob", "landmark_px")
    rows = [[name, *(each[key] for key in names)] for name, each in figures.items()]
    return _table("weights | " + " | ".join(names), rows)


def _detect(figures: Figures) -> str:
    peers = [each["photos_per_s"] for name, each in figures.items() if name.startswith("facenet")]
    steps = ("decode", "transfer", "cascade", "cut", "write", "commit")
    rows = [
        [name, each["photos_per_s"], each["photos_per_s"] / max(peers)]
        + [each.get("ms_per_photo", {}).get(step) for step in steps]
        + [each["gpu_memory_mb"]]
        for name, each in figures.items()
    ]
    titles = " | ".join(f"{step}, ms" for step in steps)
    note = "\nMilliseconds per photo are sums over threads: decode and cut have several.\n"
    return _table(f"detector | photos/s | times facenet-pytorch | {titles} | GPU MB", rows) + note


def _train(figures: Figures) -> str:
    rows = [
        [name, each["batch"], each["precision"], each["timm_crops_per_s"],
         each["cropfirst_crops_per_s"], each["timm_crops_per_s"] / each["cropfirst_crops_per_s"],
         each.get("waiting_for_loader"), each["timm_gpu_memory_mb"],
         each["cropfirst_gpu_memory_mb"]]
        for name, each in figures.items()
    ]  # fmt: skip
    return _table(
        "model | batch | precision | timm's parts, crops/s | cropfirst, crops/s | "
        "times timm's step | waiting for the loader | timm's GPU MB | cropfirst's GPU MB",
        rows,
    )
