"""What was understood of a data set, in a few lines that a user can check at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Sample
from cropfirst.stage2_classify.datasets.unread import unread_lines

MOST_CLASSES = 12
"""Classes of a label that are shown with their counts."""


def describe(photos: PhotoSet) -> list[str]:
    """Return lines on layout, splits, labels with their classes, persons and files not taken."""
    how = " (layout recognised)" if photos.recognised else ""
    counts = {split: len(photos.by_split(split)) for split in ("train", "eval")}
    splits = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
    lines = [f"layout {photos.layout}, {splits} photos{how}"]
    lines += _label_lines(photos)
    lines.append(_persons(photos.samples))
    if photos.not_taken:
        files = ", ".join(f"{count} {name}" for name, count in sorted(photos.not_taken.items()))
        lines.append(f"not taken, though they look like images: {files}{_way_out(photos)}")
    lines += unread_lines(photos.root, photos.not_read)
    return lines


def _label_lines(photos: PhotoSet) -> list[str]:
    names = sorted({name for sample in photos.samples for name in sample.labels})
    lines = [_label(name, photos.samples) for name in names]
    for name in names:
        train, evals = (
            {_word(s.labels[name]) for s in photos.by_split(split) if name in s.labels}
            for split in ("train", "eval")
        )
        only = sorted(evals - train)
        if train and only and len(train) <= MOST_CLASSES:
            lines.append(
                f"warning: label {name}: {', '.join(only[:MOST_CLASSES])} occurs among the eval "
                f"photos only, so no model can learn it"
            )
    return lines or ["labels: none"]


def _label(name: str, samples: Sequence[Sample]) -> str:
    values = [sample.labels[name] for sample in samples if name in sample.labels]
    # A split of which no photo has the label is to be predicted: nothing is missing there.
    labelled = {sample.split for sample in samples if name in sample.labels}
    missing = sum(sample.split in labelled for sample in samples) - len(values)
    unknown = f"; {missing} photos without it" if missing else ""
    numbers = [value for value in values if not isinstance(value, str)]
    counts = Counter(_word(value) for value in values)
    if len(numbers) == len(values) and len(counts) > MOST_CLASSES:
        return f"label {name}: numbers from {min(numbers)} to {max(numbers)}{unknown}"
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{value} {count}" for value, count in ordered[:MOST_CLASSES])
    more = f", ... ({len(counts)} values)" if len(counts) > MOST_CLASSES else ""
    return f"label {name}: {shown}{more}{unknown}"


def _word(value: Fact) -> str:
    return str(value)


def _persons(samples: Sequence[Sample]) -> str:
    persons = {sample.group for sample in samples if sample.group is not None}
    if not persons:
        return "persons unknown: each photo counts as a person of its own"
    known = {sample.split for sample in samples if sample.group is not None}
    alone = sum(sample.group is None and sample.split in known for sample in samples)
    text = f"persons: {len(persons)}"
    return f"{text}; {alone} photos of unknown persons count as one each" if alone else text


def _way_out(photos: PhotoSet) -> str:
    if any(name in photos.not_taken for name in (".heic", ".heif", ".hif")):
        return " (HEIC: pip install 'cropfirst[heic]', or convert them to JPEG)"
    return ""
