"""The summary of a run of `detect`, and how it is printed: counts, rates and unreadable photos."""

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
    """Counts of one run, and the crop set that it filled."""

    photos: int
    """Number of photos in the data set."""
    faces: int
    """Number of faces found in all photos, including faces that are not a photo's main face."""
    several_faces: int
    """Number of photos with more than one face."""
    statuses: dict[str, int]
    """Number of photos of each status."""
    policies: dict[str, int]
    """Number of photos in which each retry step found a face."""
    processed: int
    """Number of photos that were read in this run."""
    missing: int
    """Number of photos without a file; the others that were not processed were unchanged."""
    crops_written: int
    """Number of crops written in this run."""
    kept: int
    """Number of photos with rows in the crop set that are not among those of this run; they exist,
    and keep their rows."""
    unsegmented: int
    """Number of crops that are an ellipse because their face could not be segmented."""
    changed: bool
    """Whether the run changed any row of the cache."""
    detect_seconds: float
    """Duration of the detection, from the compiled detector to the last photo; 0 without any."""
    seconds: float
    """Duration of the complete run."""
    errors: tuple[tuple[str, str, str], ...]
    """(key, error type, message) of every unreadable photo."""
    crops: CropSet
    """The crop set."""

    @property
    def photos_per_second(self) -> float:
        """Number of photos processed per second of the detection."""
        return self.processed / self.detect_seconds if self.detect_seconds > 0 else 0.0


def print_summary(summary: DetectSummary, console: Console) -> None:
    """Print a table of statuses, the rates, and the first unreadable photos."""
    table = Table("status", "photos", "share", "meaning", title=f"{summary.photos} photos")
    for status, meaning in MEANING.items():
        count = summary.statuses.get(status, 0)
        if status == "retried" and summary.policies:
            steps = ", ".join(f"{name} {n}" for name, n in sorted(summary.policies.items()))
            meaning = f"{meaning} and accepted (retries found in total: {steps})"
        table.add_row(status, str(count), f"{count / summary.photos:.2%}", meaning)
    console.print(table)
    lines = [
        f"{summary.faces} faces in all, photos with several faces: {summary.several_faces}; "
        f"{_processed(summary)}; "
        f"{summary.crops_written} crops written; {summary.seconds:.1f} s in all"
    ]
    if summary.crops.config["crop"]["background"] == "segment":
        share = summary.unsegmented / summary.photos
        lines.append(
            f"{summary.unsegmented} faces ({share:.2%}) could not be segmented and were cut as an "
            "ellipse"
        )
    if summary.kept:
        lines.append(
            f"{summary.kept} photos of the crop set are not in this data set; they keep their rows "
            "and crops"
        )
    lines += [f"  {key}: {kind}: {text}" for key, kind, text in summary.errors[:ERRORS_SHOWN]]
    if len(summary.errors) > ERRORS_SHOWN:
        more = len(summary.errors) - ERRORS_SHOWN
        lines.append(f"  and {more} more unreadable photos (column `error` of the manifest)")
    for line in lines:
        say(console, line)


def _processed(summary: DetectSummary) -> str:
    unchanged = summary.photos - summary.processed - summary.missing
    if unchanged == summary.photos:
        return "no photo has changed, none was processed again"
    text = "none was processed"
    if summary.processed:
        text = f"processed {summary.processed} photos, {summary.photos_per_second:.1f} per second"
    for count, state in ((unchanged, "unchanged"), (summary.missing, "missing")):
        if count:
            text += f", {count} {'was' if count == 1 else 'were'} {state}"
    return text
