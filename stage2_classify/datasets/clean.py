"""Cleans the labels and persons of every data set, whatever its layout.

Text is put into one Unicode form; spellings of one class that differ in case are joined; impossible
values are left out. Everything that was changed is counted and named.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from cropfirst.core.text import normal_form
from cropfirst.stage2_classify.datasets.sample import Fact, Problem, Sample

AGE_FACT = "age"
AGES = (0, 120)
"""Lowest and highest age in years that a person can have."""
_MOST_SHOWN = 5
_MOST_CLASSES = 50
"""A column with more different words than this is no class label; its spellings stay."""


def clean_samples(
    samples: Sequence[Sample],
) -> tuple[tuple[Sample, ...], tuple[Problem, ...], int]:
    """Return the samples with their text and values cleaned, in the same order.

    Returns:
        The samples, the problems that were met, and the number of photos with an impossible value.
    """
    samples = _in_one_form(samples)
    spellings, problems = _joined_spellings(samples)
    impossible = Counter[str]()
    cleaned = []
    for sample in samples:
        changed = {
            name: spellings[name, value]
            for name, value in (sample.labels.items() if spellings else ())
            if (name, value) in spellings
        }
        age = sample.labels.get(AGE_FACT)
        is_impossible = age is not None and not _is_possible_age(age)
        if changed or is_impossible:
            labels = dict(sample.labels) | changed
            if is_impossible:
                impossible[str(labels.pop(AGE_FACT))] += 1
            sample = replace(sample, labels=labels)
        cleaned.append(sample)
    if impossible:
        shown = ", ".join(sorted(impossible)[:_MOST_SHOWN])
        text = (
            f"{impossible.total()} photos have an age outside of {AGES[0]} to {AGES[1]} ({shown}); "
            f"their age is left out"
        )
        problems.append(Problem(AGE_FACT, text))
    problems += _possible_missing(cleaned)
    return tuple(cleaned), tuple(problems), impossible.total()


def _in_one_form(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples with their labels and groups in one Unicode form."""
    texts: set[Fact | None] = set()  # few texts occur in many samples
    for sample in samples:
        texts.update(sample.labels, sample.labels.values(), (sample.group,))
    if all(normal_form(text) == text for text in texts if isinstance(text, str)):
        return list(samples)
    return [_normalized(sample) for sample in samples]


def _normalized(sample: Sample) -> Sample:
    labels = {
        normal_form(name): normal_form(value) if isinstance(value, str) else value
        for name, value in sample.labels.items()
    }
    group = None if sample.group is None else normal_form(sample.group) or None
    return replace(sample, labels=labels, group=group)


def _words(samples: Sequence[Sample]) -> dict[str, Counter[str]]:
    """Return label -> word -> number of photos."""
    words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        for name, value in sample.labels.items():
            if isinstance(value, str):
                words[name][value] += 1
    return dict(words)


def _joined_spellings(
    samples: Sequence[Sample],
) -> tuple[dict[tuple[str, Fact], Fact], list[Problem]]:
    """Return (label, word) -> its spelling: the most frequent one, then the first."""
    joined: dict[tuple[str, Fact], Fact] = {}
    problems = []
    for name, counts in sorted(_words(samples).items()):
        alike: defaultdict[str, list[str]] = defaultdict(list)
        for word in sorted(counts):
            alike[word.casefold()].append(word)
        if len(alike) > _MOST_CLASSES:
            continue
        for words in alike.values():
            if len(words) == 1:
                continue
            used = max(words, key=lambda word: (counts[word], [-ord(c) for c in word]))
            joined.update({(name, word): used for word in words})
            shown = ", ".join(f"{word!r} ({counts[word]})" for word in words)
            problems.append(Problem(name, f"{shown} are read as one class, {used!r}"))
    return joined, problems


def _is_possible_age(age: Fact) -> bool:
    try:
        return AGES[0] <= float(age) <= AGES[1]
    except ValueError:  # a range, which the label schema reads
        return True


def _possible_missing(samples: Sequence[Sample]) -> list[Problem]:
    """Name a class `none`: it may mean that the label is not known."""
    return [
        Problem(name, f"{word!r} ({count} photos) is read as a class; empty cells mean not known")
        for name, counts in sorted(_words(samples).items())
        for word, count in sorted(counts.items())
        if word.casefold() == "none"
        and any(name not in sample.labels for sample in samples if sample.split == "train")
    ]
