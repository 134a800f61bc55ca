"""The class of each photo as one word, for stage 1, which knows no labels. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cropfirst.stage2_classify.datasets import PhotoSet

UNKNOWN = "?"
"""Stands for the class of a task that a photo has no label of."""


def class_strata(photos: PhotoSet) -> dict[str, str]:
    """Return key -> the classes of all tasks as one word.

    The tasks are those of the label schema that is inferred from the data set. A photo of the eval
    split, or without any label, is left out.
    """
    from cropfirst.stage2_classify.labels.infer_schema import infer_schema
    from cropfirst.stage2_classify.labels.task import LabelError

    try:
        schema = infer_schema(photos, required=False)
    except LabelError:
        return {}
    strata: dict[str, str] = {}
    for sample in photos.samples:
        if sample.split != "train":
            continue
        words = []
        for task in schema.tasks:
            try:
                code = schema.target(task.name, sample.labels, where=sample.key)
            except LabelError:
                code = None
            words.append(UNKNOWN if code is None else schema.class_names(task.name)[code])
        if set(words) != {UNKNOWN}:
            strata[sample.key] = " ".join(words)
    return strata
