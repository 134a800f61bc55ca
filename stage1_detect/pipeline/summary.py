"""The results of a run of `detect`, and how they are printed: counts per status, rates, and every
photo that failed.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from cropfirst.cache import CropSet
from cropfirst.core.console import say

MEANING = {
    "detected": "found by MTCNN as configured",
    "retried": "found by a retry",
    "sibling": "box of the same person's other photos",
    "prior": "the data set's typical face position",
    "unreadable": "no crop",
}
ERRORS_SHOWN = 20


@dataclass(frozen=True)
class DetectSummary:
    """What a run of the stage did, and where it is."""

    photos: int
    faces: int
    """Faces found in all photos, also those that are not a photo's main face."""
    statuses: dict[str, int]
    """Photos of each status."""
    policies: dict[str, int]
    """Photos found by each retry step."""
    looked: int
    """Photos that were read and looked at in this run; the others were unchanged."""
    cut: int
    """Crops written in this run."""
    unsegmented: int
    """Crops that are an ellipse since their face could not be segmented."""
    changed: bool
    """Whether any row is not what the cache held before."""
    seconds: float
    errors: tuple[tuple[str, str, str], ...]
    """(key, error type, message) of every unreadable photo."""
    crops: CropSet

    @property
    def photos_per_second(self) -> float:
        """Photos looked at per second of this run; 0 when none was."""
        return self.looked / self.seconds if self.seconds > 0 else 0.0


def print_summary(summary: DetectSummary, console: Console) -> None:
    """Print the summary of a run of stage 1."""
    table = Table("status", "photos", "share", "meaning", title=f"{summary.photos} photos")
    for status, meaning in MEANING.items():
        count = summary.statuses.get(status, 0)
        if status == "retried" and summary.policies:
            steps = ", ".join(f"{name} {n}" for name, n in sorted(summary.policies.items()))
            meaning = f"{meaning}, and believed (found in all: {steps})"
        table.add_row(status, str(count), f"{count / summary.photos:.2%}", meaning)
    console.print(table)
    lines = [
        f"{summary.faces} faces in all; {_looked(summary)}; {summary.cut} crops written in "
        f"{summary.seconds:.1f} s"
    ]
    if summary.crops.config["crop"]["background"] == "segment":
        share = summary.unsegmented / summary.photos
        lines.append(
            f"{summary.unsegmented} faces ({share:.2%}) could not be segmented, and were cut as an "
            "ellipse"
        )
    lines += [f"  {key}: {kind}: {text}" for key, kind, text in summary.errors[:ERRORS_SHOWN]]
    if len(summary.errors) > ERRORS_SHOWN:
        more = len(summary.errors) - ERRORS_SHOWN
        lines.append(f"  and {more} more unreadable photos (column `error` of the manifest)")
    for line in lines:
        say(console, line)


def _looked(summary: DetectSummary) -> str:
    unchanged = summary.photos - summary.looked
    if not summary.looked:
        return "no photo has changed, none was looked at again"
    rate = f"looked at {summary.looked} photos, {summary.photos_per_second:.1f} a second"
    return f"{rate}, {unchanged} were unchanged" if unchanged else rate
