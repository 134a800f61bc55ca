"""The result of `eda` on the console, as JSON and as pictures. Counts nothing. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cropfirst.core.charts import COLOURS, new_figure, style_axes, write_png
from cropfirst.core.console import say
from cropfirst.core.files import mark_output, write_atomic
from cropfirst.stage2_classify.eda.eda import UNKNOWN, Eda

PAIRS_SHOWN = 10
"""Number of near-duplicates on the console."""
MOST_COMBINATIONS = 40
"""Number of combinations of classes beyond which they are not listed."""
STRONG = 0.3
"""Cramer's V from which an association is pointed out."""


def print_eda(console: Console, eda: Eda) -> None:
    """Print the counts as tables."""
    console.print(_class_table(eda))
    if 1 < len(eda.joint) <= MOST_COMBINATIONS:
        table = Table("combination", "photos", title="Combinations of labels")
        for name in sorted(eda.joint, key=lambda name: -eda.joint[name]):
            table.add_row(Text(name), _share(eda.joint, name))
        console.print(table)
    if eda.rooms:
        console.print(_room_table(eda))
    table = Table(title="Associations (Cramer's V)")
    table.add_column("pair")
    table.add_column("V", justify="right")
    for name, value in sorted(eda.associations.items(), key=lambda item: -item[1]):
        table.add_row(Text(name), f"{value:.2f}", style="yellow" if value >= STRONG else None)
    console.print(table)
    console.print(_number_table(eda))
    for line in _remarks(eda):
        say(console, line)


def write_eda(out_dir: Path, eda: Eda) -> tuple[Path, tuple[Path, ...]]:
    """Write eda.json and the pictures; returns their paths."""
    mark_output(out_dir)
    path = out_dir / "eda.json"
    text = json.dumps(eda.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())
    return path, _pictures(out_dir, eda)


def _class_table(eda: Eda) -> Table:
    splits = list(eda.photos)
    table = Table(title="Photos of each class")
    for column in ("task", "class"):
        table.add_column(column)
    for split in splits:
        table.add_column(split, justify="right")
    counts = [str(eda.photos[split]) for split in splits]
    table.add_row("photos", "", *counts)
    table.add_row("people", "", *(str(eda.people.get(split, "-")) for split in splits))
    for name, found in eda.classes.items():
        table.add_section()
        for word in dict.fromkeys(word for split in splits for word in found.get(split, {})):
            cells = [_share(found.get(split, {}), word) for split in splits]
            table.add_row(Text(name), Text(word), *cells)
    for name, values in eda.facts.items():
        if name == "room":
            continue
        table.add_section()
        for word in sorted(values):
            blank = [""] * (len(splits) - 1)
            table.add_row(Text(name), Text(word), _share(values, word), *blank)
    return table


def _share(counts: Mapping[str, int], word: str) -> str:
    count = counts.get(word, 0)
    return f"{count} ({count / max(sum(counts.values()), 1):.1%})" if count else "-"


def _room_table(eda: Eda) -> Table:
    table = Table(title="Rooms in training, with their most frequent combination of classes")
    table.add_column("room")
    for column in ("photos", "most frequent", "share"):
        table.add_column(column, justify="right")
    for room, counts in eda.rooms.items():
        word = max(counts, key=counts.__getitem__)
        total = sum(counts.values())
        table.add_row(Text(room), str(total), Text(word), f"{counts[word] / total:.0%}")
    return table


def _number_table(eda: Eda) -> Table:
    table = Table(title="Faces and light")
    table.add_column("")
    for column in ("least", "quarter", "median", "three quarters", "largest"):
        table.add_column(column, justify="right")
    data = eda.to_dict()
    names = {
        "height": "face height, px", "share": "face height, of the photo",
        "x": "centre of the face, across", "y": "centre of the face, down",
        "score": "detector score",
    }  # fmt: skip
    rows = {title: data["faces"][name] for name, title in names.items()}
    rows |= {"brightness, 0-255": data["brightness"], "contrast": data["contrast"]}
    rows["age"] = data["ages"]
    for title, found in rows.items():
        if found is not None:
            numbers = [found[key] for key in list(found)[:5]]
            table.add_row(title, *(f"{number:.3g}" for number in numbers))
    return table


def _remarks(eda: Eda) -> list[str]:
    remarks = list(eda.notes)
    for split, counts in eda.statuses.items():
        found = ", ".join(f"{status} {count}" for status, count in counts.items())
        remarks.append(f"crops, {split}: {found}")
    rooms = [name for name, v in eda.associations.items() if "room" in name.split() and v >= STRONG]
    if rooms:
        remarks.append(
            f"{'; '.join(rooms)}: the room tells the label, so a model that sees the room need not "
            "look at the face; use crops without background, and check runs with cropfirst audit"
        )
    if eda.stats:
        across = sum(pair.across_splits for pair in eda.near_duplicates)
        remarks.append(
            f"{len(eda.near_duplicates)} pairs of photos look nearly the same and are not of one "
            f"known person; {across} of them have one photo in train and one in eval"
        )
        remarks += [
            f"  {pair.first} | {pair.second} ({pair.bits} of 64 bits differ)"
            for pair in sorted(eda.near_duplicates, key=lambda pair: not pair.across_splits)[
                :PAIRS_SHOWN
            ]
        ]
    return remarks


def _pictures(out_dir: Path, eda: Eda) -> tuple[Path, ...]:
    paths = []
    if eda.classes:
        paths.append(out_dir / "classes.png")
        _draw_classes(paths[-1], eda)
    if eda.faces.height or eda.stats:
        paths.append(out_dir / "faces.png")
        _draw_faces(paths[-1], eda)
    if eda.rooms:
        paths.append(out_dir / "rooms.png")
        _draw_rooms(paths[-1], eda)
    return tuple(paths)


def _draw_classes(path: Path, eda: Eda) -> None:
    figure = new_figure(10, 3.2 * -(-len(eda.classes) // 3))
    for place, (task, by_split) in enumerate(eda.classes.items()):
        axes = figure.add_subplot(-(-len(eda.classes) // 3), 3, place + 1)
        known = {s: counts for s, counts in by_split.items() if set(counts) - {UNKNOWN}}
        words = list(dict.fromkeys(word for counts in known.values() for word in counts))
        words = [word for word in words if word != UNKNOWN]
        width = 0.8 / max(len(known), 1)
        for number, (split, counts) in enumerate(known.items()):
            heights = [counts.get(word, 0) for word in words]
            axes.bar(
                np.arange(len(words)) + number * width,
                heights,
                width,
                label=split,
                color=COLOURS[number],
            )
        turn = 0 if len(words) <= 3 else 90
        axes.set_xticks(np.arange(len(words)) + 0.4 - width / 2, words, rotation=turn,
                        parse_math=False)  # fmt: skip
        style_axes(axes, task)
        if known:
            axes.legend(fontsize=8)
    write_png(path, figure)


def _draw_faces(path: Path, eda: Eda) -> None:
    figure = new_figure(10, 6)
    heights, where, scores, light = figure.subplots(2, 2).flatten()
    for split, colour in zip(eda.photos, COLOURS, strict=False):
        style: dict[str, Any] = {"color": colour, "label": split}
        part = eda.faces.filter(eda.faces["split"] == split)
        heights.hist(part["height"].to_numpy(), bins=30, alpha=0.6, **style)
        where.scatter(part["x"].to_numpy(), part["y"].to_numpy(), s=3, alpha=0.4, **style)
        found = part["score"].drop_nulls().to_numpy()
        if len(found):
            scores.hist(found, bins=np.linspace(0.5, 1, 26).tolist(), alpha=0.6, **style)
    style_axes(heights, "face height, px")
    style_axes(where, "centre of the face in the photo")
    where.set_xlim(0, 1)
    where.set_ylim(1, 0)
    style_axes(scores, "detector score")
    scores.set_yscale("symlog")
    light.hist([each.brightness for each in eda.stats], bins=30, color=COLOURS[0])
    style_axes(light, "brightness of the photo, 0-255")
    heights.legend(fontsize=8)
    write_png(path, figure)


def _draw_rooms(path: Path, eda: Eda) -> None:
    words = sorted({word for counts in eda.rooms.values() for word in counts})
    table = np.array([[counts.get(word, 0) for word in words] for counts in eda.rooms.values()])
    shares = table / np.maximum(table.sum(axis=0, keepdims=True), 1)
    figure = new_figure(2.5 + 0.4 * len(words), 2.5 + 0.3 * len(eda.rooms))
    axes = figure.add_subplot()
    shade = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(shade, ax=axes, label="share of the combination's photos")
    axes.set_xticks(np.arange(len(words)), words, rotation=90, fontsize=7, parse_math=False)
    rooms = [f"room {room}" for room in eda.rooms]
    axes.set_yticks(np.arange(len(rooms)), rooms, fontsize=7, parse_math=False)
    style_axes(axes, "rooms of each combination of classes")
    write_png(path, figure)
