"""What `detect` says at its end: counts per status, rates, and every photo that failed."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from cropfirst.cache.console import say
from cropfirst.stage1_detect.run import DetectSummary

MEANING = {
    "detected": "found by MTCNN as configured",
    "retried": "found by a retry",
    "sibling": "box of the same person's other photos",
    "prior": "the data set's typical face position",
    "unreadable": "no crop",
}
ERRORS_SHOWN = 20


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
