"""The summary of a swapped twin, how it is printed, and its contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cropfirst.cache import CropSet
from cropfirst.cache.swapped import SwappedTwin, open_swapped
from cropfirst.core.console import say
from cropfirst.core.sheet import SheetTile, write_sheet
from cropfirst.core.spread import spread
from cropfirst.stage1_detect.swap.plan import Swaps

FEW_DONORS = 20
"""Number of people whose rooms are used, below which they are said to be few."""
MOST_SHOWN = 32
"""Number of photos on the contact sheet."""


@dataclass(frozen=True)
class SwapSummary:
    """The changes of a run to the swapped twin of a crop set, and the twin after them."""

    twin: SwappedTwin
    cut_outs_made: int
    """Number of cut-outs made in this run."""
    crops_made: int
    """Number of swapped crops made in this run, in all draws."""
    changed: bool
    """Whether the run changed any row."""
    seconds: float
    """Duration of the run."""
    n_bytes: int
    """Size of the draws on disk."""
    cut_outs_bytes: int
    """Size of the stored cut-outs on disk, which all crop sets share."""
    donors: tuple[dict[str, str], ...]
    """Per draw, key -> key of the photo whose room it has."""


def summarize(
    crops: CropSet,
    swaps: Swaps,
    *,
    cut_outs_made: int,
    crops_made: int,
    changed: bool,
    seconds: float,
    cut_outs: Path,
) -> SwapSummary:
    """Collect the summary of a run; `cut_outs` is the folder of the stored cut-outs."""
    twin = open_swapped(crops)
    assert twin is not None, "its draws were written just now"
    donors: tuple[dict[str, str], ...] = tuple({} for _ in twin.draws)
    for key, each in swaps.items():
        for swap in each:
            if swap.donor is not None:
                donors[swap.draw][key] = swap.donor
    return SwapSummary(
        twin, cut_outs_made, crops_made, changed, seconds,
        n_bytes=sum(_size(draw.folder) for draw in twin.draws),
        cut_outs_bytes=_size(cut_outs),
        donors=donors,
    )  # fmt: skip


def print_swapped(summary: SwapSummary, console: Console | None) -> None:
    """Print how many photos have swapped crops, which were left out and why, and the cost."""
    twin = summary.twin
    n_left_out = sum(twin.left_out.values())
    total = len(twin.usable) + n_left_out + twin.n_outdated
    draws = "1 draw" if len(twin.draws) == 1 else f"{len(twin.draws)} draws"
    say(
        console,
        f"swapped rooms: {len(twin.usable)} of {total} train photos in {draws}; "
        f"{summary.crops_made} crops and {summary.cut_outs_made} cut-outs made in "
        f"{summary.seconds:.1f} s; {summary.n_bytes / 1e6:.0f} MB of crops, "
        f"{summary.cut_outs_bytes / 1e6:.0f} MB of cut-outs",
    )
    if n_left_out:
        statuses = ", ".join(f"{name} {n}" for name, n in twin.left_out_statuses.items())
        say(console, f"  {n_left_out} were left out ({statuses}):")
    for reason, count in twin.left_out.items():
        say(console, f"    {count}: {reason}")
    if not twin.usable:
        say(console, "  no photo has a swapped crop: no score can be checked in other rooms",
            style="yellow")  # fmt: skip
    people = _people(summary)
    if 0 < people < FEW_DONORS:
        say(console, f"  the rooms are of {people} people only: their classes are hardly random",
            style="yellow")  # fmt: skip


def swapped_sheet(summary: SwapSummary, path: Path) -> None:
    """Write a PNG of some crops, each beside its swapped crops, spread evenly over the keys."""
    twin = summary.twin
    keys = sorted(twin.usable & summary.donors[0].keys())
    shown = spread(keys, MOST_SHOWN)
    original, readers = twin.crops.reader(), [draw.reader() for draw in twin.draws]
    tiles = []
    for key in shown:
        tiles.append(SheetTile(original[key], "as it is", key))
        for n, reader in enumerate(readers):
            donor = summary.donors[n].get(key, "")
            tiles.append(SheetTile(reader[key], "in the room of", donor))
    each = 1 + len(readers)
    title = f"{twin.crops.name}: {len(shown)} of {len(keys)} crops in other rooms"
    write_sheet(tiles, path, title, columns=each * max(1, 8 // each))


def _people(summary: SwapSummary) -> int:
    """Return the number of people whose rooms are used in the first draw."""
    used = set(summary.donors[0].values())
    rows = summary.twin.draws[0].manifest.read().select("key", "group")
    return len({group or f"photo {key}" for key, group in rows.iter_rows() if key in used})


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
