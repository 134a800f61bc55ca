"""The plan of an audit: the photos, whose background each one gets, and Grad-CAM's.

Knows class numbers, persons and backgrounds; knows nothing of models or scores. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cropfirst.core.compositing import compose
from cropfirst.stage2_classify.audit.backgrounds import Backgrounds, PhotoReader
from cropfirst.stage2_classify.audit.probe import Probe, probe
from cropfirst.stage2_classify.audit.runs import AuditRun
from cropfirst.stage2_classify.audit.variants import (
    MIXED,
    VARIANTS,
    Image,
    SplitPhoto,
    pick_donors,
    plain_variants,
)

CAM_PHOTOS = 120
"""Number of photos for Grad-CAM, of as many persons as possible."""
Kind = tuple[str, str]
"""Task and variant; the task is "" for variants that are the same for all tasks."""


@dataclass(frozen=True)
class AuditPlan:
    """The photos of an audit and the donors of their backgrounds."""

    backgrounds: Backgrounds
    donors: Mapping[str, Mapping[str, npt.NDArray[np.int64]]]
    """Task -> mixed variant -> (N,) rows of `backgrounds`; -1 where nobody else has the class."""
    cam_keys: frozenset[str]
    """Keys of the photos for Grad-CAM."""

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Key -> row of `backgrounds`."""
        return {key: index for index, key in enumerate(self.backgrounds.keys)}

    def kinds(self, tasks: Sequence[str]) -> list[Kind]:
        """Return all variants that runs of some tasks are shown."""
        plain = [("", name) for name in VARIANTS if name not in MIXED]
        return plain + [(task, name) for task in tasks for name in MIXED]

    def split(self, key: str, reader: PhotoReader, row: Mapping[str, Any]) -> SplitPhoto | None:
        """Read a photo again and split it; None if it is gone meanwhile."""
        return self.backgrounds.split(self.index_of[key], reader, row)

    def variants(
        self, key: str, split: SplitPhoto, tasks: Sequence[str]
    ) -> Iterator[tuple[Kind, Image | None]]:
        """Yield a photo's variants, (H, W, 3) uint8 RGB; None where nobody gives a background.

        They come one at a time, in the order of `kinds`, since photos may be large.
        """
        for name, image in plain_variants(split).items():
            yield ("", name), image
        for task in tasks:
            for name in MIXED:
                donor = int(self.donors[task][name][self.index_of[key]])
                yield (
                    (task, name),
                    None
                    if donor < 0
                    else compose(split.photo, split.mask, self.backgrounds.image(donor)),
                )


def make_plan(
    runs: Sequence[AuditRun], backgrounds: Backgrounds, *, seed: int = 0
) -> tuple[AuditPlan, list[Probe]]:
    """Choose the donors for each task, and measure how well the backgrounds alone tell it.

    Args:
        runs: their tasks, targets and persons count; the first run that knows a photo decides.
        backgrounds: of the photos that could be read.
        seed: of the choice of donors and of photos for Grad-CAM.
    """
    keys = backgrounds.keys
    person_of = {key: person for run in reversed(runs) for key, person in run.person_of.items()}
    people = np.unique([person_of[key] for key in keys], return_inverse=True)[1]
    donors: dict[str, dict[str, npt.NDArray[np.int64]]] = {}
    probes = []
    for task in tasks_of(runs):
        targets = {k: v for run in reversed(runs) for k, v in run.targets.get(task, {}).items()}
        known = np.array([row for row, key in enumerate(keys) if key in targets])
        codes = np.array([targets[keys[row]] for row in known])
        n_classes = runs[0].schema.num_classes(task)
        found = pick_donors(
            codes, people[known], backgrounds.clean[known], n_classes=n_classes, seed=seed
        )
        donors[task] = {name: np.full(len(keys), -1, np.int64) for name in found}
        for name, rows in found.items():
            donors[task][name][known] = np.where(rows >= 0, known[rows], -1)
        features = backgrounds.features[known]
        probes.append(probe(task, features, codes, people[known], n_classes=n_classes))
    return AuditPlan(backgrounds, donors, _cam_keys(keys, people, seed)), probes


def tasks_of(runs: Sequence[AuditRun]) -> list[str]:
    """Return the tasks of all runs, each once."""
    return list(dict.fromkeys(task for run in runs for task in run.tasks))


def _cam_keys(keys: Sequence[str], people: npt.NDArray[Any], seed: int) -> frozenset[str]:
    """Choose CAM_PHOTOS keys: one photo of each person, then a second one, and so on."""
    order = np.random.default_rng(seed).permutation(len(keys))
    seen: dict[int, int] = {}
    ranked = []
    for index in order.tolist():
        person = int(people[index])
        seen[person] = seen.get(person, 0) + 1
        ranked.append((seen[person], keys[index]))
    ranked.sort(key=lambda pair: pair[0])
    return frozenset(key for _, key in ranked[:CAM_PHOTOS])
