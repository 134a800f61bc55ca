"""Describes how a data set was understood, in a few lines that a user can check at a glance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from cropfirst.stage2_classify.datasets.sample import Fact, PhotoSet, Sample, Split
from cropfirst.stage2_classify.datasets.unread import unread_lines

MOST_CLASSES = 12
"""Classes of a label that are shown with their counts, and labels of yes or no with a line each."""
_YES_NO: set[Fact] = {-1, 0, 1}


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
    columns = _count(photos.samples)
    sizes = Counter(sample.split for sample in photos.samples)
    yes_no = [name for name, counts in columns.items() if _all_values(counts) <= _YES_NO]
    joined = yes_no if len(yes_no) > MOST_CLASSES else []
    lines = [_label(name, counts, sizes) for name, counts in columns.items() if name not in joined]
    if joined:
        ones = (f"{name} {sum(each[1] for each in columns[name].values())}" for name in joined)
        lines.append(
            f"{len(joined)} labels of -1, 0 and 1, with the number of 1: {', '.join(ones)}"
        )
    for name, counts in columns.items():
        train, evals = ({_word(value) for value in counts[split]} for split in ("train", "eval"))
        only = sorted(evals - train)
        if train and only and len(train) <= MOST_CLASSES:
            lines.append(
                f"warning: label {name}: {', '.join(only[:MOST_CLASSES])} occurs among the eval "
                f"photos only, so no model can learn it"
            )
    return lines or ["labels: none"]


Counts = Mapping[Split, Counter[Fact]]
"""Split -> value of a label -> number of photos."""


def _count(samples: Sequence[Sample]) -> dict[str, Counts]:
    """Return name of a label, in alphabetical order -> its counts."""
    columns: defaultdict[str, dict[Split, Counter[Fact]]] = defaultdict(
        lambda: {"train": Counter(), "eval": Counter()}
    )
    for sample in samples:
        for name, value in sample.labels.items():
            columns[name][sample.split][value] += 1
    return dict(sorted(columns.items()))


def _all_values(counts: Counts) -> set[Fact]:
    return {value for each in counts.values() for value in each}


def _label(name: str, counts: Counts, sizes: Mapping[Split, int]) -> str:
    # A split of which no photo has the label is to be predicted: nothing is missing there.
    labelled = {split: each.total() for split, each in counts.items() if each}
    missing = sum(sizes[split] - total for split, total in labelled.items())
    unknown = f"; {missing} photos without it" if missing else ""
    values = _all_values(counts)
    numbers = [value for value in values if not isinstance(value, str)]
    words: Counter[str] = Counter()
    for value in values:
        words[_word(value)] += sum(each[value] for each in counts.values())
    if len(numbers) == len(values) and len(words) > MOST_CLASSES:
        return f"label {name}: numbers from {min(numbers)} to {max(numbers)}{unknown}"
    ordered = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{value} {count}" for value, count in ordered[:MOST_CLASSES])
    more = f", ... ({len(words)} values)" if len(words) > MOST_CLASSES else ""
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
