"""The model card: data, intended use, limits and worst slices, in words.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. Words what was found; computes
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cropfirst.stage2_classify.datasets.sample import PhotoSet
from cropfirst.stage2_classify.evaluate.error_analysis import ErrorAnalysis
from cropfirst.stage2_classify.evaluate.task_report import TaskReport
from cropfirst.stage2_classify.report.other_commands import verdict_of
from cropfirst.stage2_classify.report.run_info import RunInfo

Section = tuple[str, list[str]]
RARE = 50
"""Number of photos of a class below which its score is said to be uncertain."""
GAPS = 6
"""Most BG-Gaps that are named, the largest first."""
WORST = 3
"""Most slices per task that are named."""


def model_card(
    photos: PhotoSet,
    runs: Sequence[RunInfo],
    reports: Sequence[TaskReport],
    analyses: Sequence[ErrorAnalysis],
    *,
    statuses: Mapping[str, int],
    audit: Mapping[str, Any],
) -> list[Section]:
    """Return the sections of the card.

    Args:
        photos: the data set.
        runs: settings of the runs.
        reports: scores of each task.
        analyses: errors of each task.
        statuses: crop status -> photos.
        audit: audit.json; empty where there is none.
    """
    return [
        ("Data", _data(photos, analyses, statuses)),
        ("Models", _models(runs)),
        ("Intended use", _use(analyses)),
        ("Limits", _limits(reports, analyses, statuses, audit, {run.name for run in runs})),
        ("Where they are worst", _worst(analyses)),
    ]


def _data(
    photos: PhotoSet, analyses: Sequence[ErrorAnalysis], statuses: Mapping[str, int]
) -> list[str]:
    train = photos.by_split("train")
    people = len({sample.group for sample in train if sample.group is not None})
    of_people = f" of {people} people" if people else "; the persons are not known"
    lines = [
        f"{photos.root.name} (layout {photos.layout}): {len(train)} training photos{of_people}"
    ]
    if not people:
        lines.append(
            "As the persons are not known, photos of one person may be in training and in "
            "validation: then the scores here are too high."
        )
    if statuses:
        total = sum(statuses.values())
        plain = statuses.get("detected", 0)
        lines.append(
            f"The face was plainly detected in {plain / total:.1%} of {total} photos; the other "
            "crops come from further tries, from the same person's other photos or from the usual "
            "place of faces."
        )
    scored = ", ".join(f"{each.task} {each.n_photos}" for each in analyses)
    lines.append(f"Photos scored, out of fold: {scored}.")
    return lines


def _models(runs: Sequence[RunInfo]) -> list[str]:
    return [
        f"{run.name}: {run.backbone} on {run.crops} crops at {run.image_size} px, for {run.tasks}"
        for run in runs
    ]


def _use(analyses: Sequence[ErrorAnalysis]) -> list[str]:
    known = ", ".join(each.task for each in analyses if each.chance.is_better)
    unknown = ", ".join(each.task for each in analyses if not each.chance.is_better)
    lines = []
    if known:
        lines.append(
            f"Sorting and counting photos of faces by {known}, where single mistakes do no harm."
        )
    if unknown:
        lines.append(f"Not for {unknown}: the models are no better than chance there, see Limits.")
    return [
        *lines,
        "Not for identifying people, access control, hiring, policing, medical or legal decisions, "
        "or any decision about a person that no human makes.",
        "Labels of gender and age are what somebody perceived or recorded, not what a person is. "
        "The classes are those of the data set; not everybody belongs to one of them.",
    ]


def _limits(
    reports: Sequence[TaskReport],
    analyses: Sequence[ErrorAnalysis],
    statuses: Mapping[str, int],
    audit: Mapping[str, Any],
    names: Collection[str],
) -> list[str]:
    lines = [
        "The scores hold for people photographed like those in training; they may be lower with "
        "other cameras, places and people."
    ]
    for report in reports:
        rare = [f"{each.name} ({each.support})" for each in report.classes
                if 0 < each.support < RARE]  # fmt: skip
        if rare and len(report.classes) <= 8:
            lines.append(
                f"{report.task}: few photos of {', '.join(rare)}; those scores are uncertain."
            )
        if report.absent and len(report.classes) <= 8:
            lines.append(f"{report.task}: no photo of {', '.join(report.absent)} was scored.")
    for each in analyses:
        if not each.chance.is_better:
            lines.append(
                f"{each.task}: the models are no better than chance ({each.chance}). What they "
                "have learned, and whether they would use the background, cannot be told."
            )
        if each.ece is not None and each.ece.value > 0.05:
            lines.append(
                f"{each.task}: stated probabilities are off by {each.ece.value:.1%} on average "
                "(expected calibration error)."
            )
    found = audit.get("runs") if isinstance(audit.get("runs"), list) else []
    # The audit may have compared these runs with others.
    rows = [run for run in found or [] if isinstance(run, Mapping) and run.get("name") in names]
    gaps = [run for run in rows if isinstance(run.get("bg_gap"), int | float)]
    for run in sorted(gaps, key=lambda run: -run["bg_gap"])[:GAPS]:
        lines.append(f"{run.get('name')}, {run.get('task')}: {_of_gap(run)}")
    if not gaps:
        lines.append(
            "How much the models use the background has not been measured (cropfirst audit)."
        )
    return lines


def _of_gap(run: Mapping[str, Any]) -> str:
    gap, low, high = (run.get(name) for name in ("bg_gap", "bg_gap_low", "bg_gap_high"))
    assert gap is not None
    between = f"BG-Gap {100 * gap:+.1f} points"
    if isinstance(low, int | float) and isinstance(high, int | float):
        between += f", 95 % {100 * low:+.1f} to {100 * high:+.1f}"
    finding, reason = verdict_of(run)
    if finding == "uses the background":
        return (
            f"a wrong background costs {gap:.1%} of accuracy: it uses the background ({between})."
        )
    if finding == "no use was found":
        return f"no use of the background was found ({between})."
    return f"cannot tell whether it uses the background, since {reason} ({between})."


def _worst(analyses: Sequence[ErrorAnalysis]) -> list[str]:
    lines = []
    for each in analyses:
        found = [s for s in each.slices if not s.is_small and s.gap < 0][:WORST]
        for part in found:
            lines.append(
                f"{each.task}, {part.by} {part.value}: accuracy {part.accuracy.value:.3f} "
                f"[{part.accuracy.low:.3f}, {part.accuracy.high:.3f}], expected {part.expected:.3f}"
                f" ({part.n_photos} photos of {part.n_people} people)"
            )
    return lines or ["No slice was found to be worse than the others."]
