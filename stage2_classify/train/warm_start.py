"""Starting a run from the weights of an earlier one (--init-from).

Fold K of the new run starts from fold K of the old one, which was never trained on the people that
fold K validates: they stay in their folds, and new people were in no fold of the old run. Where no
person is common, as with a run of another data set, every fold starts from the same checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.datasets.sample import Sample
from cropfirst.stage2_classify.model.heads import Head
from cropfirst.stage2_classify.model.models import Classifier
from cropfirst.stage2_classify.model.weights import WeightsReport, load_backbone_weights
from cropfirst.stage2_classify.runs.checkpoint import WEIGHTS_FILE, load_checkpoint, read_meta
from cropfirst.stage2_classify.runs.parquet import read_parquet


@dataclass(frozen=True)
class WarmStart:
    """A finished run whose folds and weights a new run starts from."""

    path: Path
    by_key: Mapping[str, int]
    """Key of a photo -> fold."""
    by_group: Mapping[str, int]
    """Person -> fold."""
    shares_people: bool
    """Whether a photo or a person of the new run was in the old one."""

    def folds_of(self, keys: Sequence[str], groups: Sequence[str | None]) -> list[int | None]:
        """Return the fold of each photo's person; None for new people.

        Raises:
            TrainError: photos of one person were in several folds of the old run.
        """
        persons: dict[str, set[int]] = {}
        names = [f"k{k}" if g is None else f"g{g}" for k, g in zip(keys, groups, strict=True)]
        for name, key, group in zip(names, keys, groups, strict=True):
            folds = {self.by_key.get(key), self.by_group.get(group) if group is not None else None}
            persons.setdefault(name, set()).update(fold for fold in folds if fold is not None)
        for name, known in persons.items():
            if len(known) > 1:
                raise TrainError(
                    f"person {name[1:]!r} was in folds {', '.join(map(str, sorted(known)))} of "
                    f"{self.path}, under other names: whichever is taken, a model would be "
                    "validated on somebody it has learned; train without --init-from"
                )
        return [next(iter(persons[name]), None) for name in names]

    def checkpoint(self, fold: str) -> Path:
        """Return the old checkpoint folder for a fold of the new run, given its folder name."""
        if not self.shares_people:
            return _any_checkpoint(self.path)
        if (self.path / fold / "best_f1").is_dir():
            return self.path / fold / "best_f1"
        # The model of all photos holds nobody out, so it may start from any checkpoint.
        everything = self.path / fold / "last"
        return everything if everything.is_dir() else self.path / "fold0" / "best_f1"

    def load(
        self, model: Classifier, fold: str, *, class_names: Mapping[str, Sequence[str]]
    ) -> WeightsReport:
        """Load the fold's best checkpoint: the backbone, and the heads of the same classes.

        Args:
            fold: folder name of the new run's fold.
            class_names: task -> class names of the new run.

        Raises:
            TrainError: there is no such checkpoint, or it is of another architecture.
        """
        folder = self.checkpoint(fold)
        old, meta = load_checkpoint(folder, "cpu")  # checks that weights and meta belong together
        report = load_backbone_weights(model.backbone, folder / WEIGHTS_FILE)
        matched, missing = list(report.matched), list(report.missing)
        for task in model.tasks:
            head = model.head(task)
            keys = [f"heads.{task}.{key}" for key in head.state_dict()]
            same = list(class_names[task]) == meta["heads"].get(task)
            if same and _fits(head, old.head(task)):
                head.load_state_dict(old.head(task).state_dict())
                matched += keys
            else:
                missing += keys
        unused = tuple(f"heads.{task}" for task in old.tasks if task not in model.tasks)
        return WeightsReport(tuple(matched), tuple(missing), unused)


def open_warm_start(path: Path, *, n_folds: int, run: Path, samples: Sequence[Sample]) -> WarmStart:
    """Open the run that a new run starts from.

    Args:
        path: the old run's folder.
        n_folds: number of folds of the new run.
        run: the new run's folder.
        samples: photos of the new run.

    Raises:
        TrainError: `path` is no run, is the new run itself, or has no finished fold; or people are
            common, and it has another number of folds or a fold that is not finished.
    """
    table = path / "folds.parquet"
    if not table.is_file():
        raise TrainError(
            f"--init-from expects a run such as work/NAME/runs/RUN; {path} is none (it has no "
            "folds.parquet)"
        )
    if path.resolve() == run.resolve():
        raise TrainError(
            f"--init-from {path} would go on into itself: give the new run another --name"
        )
    rows = read_parquet(table).select("key", "group", "fold")
    groups = rows.filter(pl.col("group").is_not_null())
    by_key = dict(zip(rows["key"].to_list(), rows["fold"].to_list(), strict=True))
    by_group = dict(zip(groups["group"].to_list(), groups["fold"].to_list(), strict=True))
    shares_people = any(each.key in by_key or each.group in by_group for each in samples)
    if shares_people:
        _check_folds(path, have=int(rows["fold"].max() or 0) + 1, wanted=n_folds)  # type: ignore[arg-type]
    start = WarmStart(path, by_key, by_group, shares_people)
    read_meta(start.checkpoint("fold0"))
    return start


def _check_folds(path: Path, *, have: int, wanted: int) -> None:
    """Check that the people that are common can stay in their folds."""
    if have != wanted:
        raise TrainError(
            f"{path} has {have} folds, --folds {wanted} was asked for: its people could not stay "
            f"in their folds; use --folds {have}"
        )
    open_folds = [k for k in range(wanted) if not (path / f"fold{k}" / "metrics.json").is_file()]
    if open_folds:
        raise TrainError(
            f"{path} is not finished (fold {open_folds[0]} is open): run its own train command "
            "again to its end first"
        )


def _any_checkpoint(path: Path) -> Path:
    """Return the checkpoint of a run to start from where no person is common: that of all photos,
    else the best one of the first finished fold."""
    finished = [each.parent for each in sorted(path.glob("*/metrics.json"))]
    if not finished:
        raise TrainError(
            f"{path} has no finished fold to start from: run its own train command to its end first"
        )
    everything = path / "all"
    return everything / "last" if everything in finished else finished[0] / "best_f1"


def _fits(new: Head, old: Head) -> bool:
    if (new.spec.kind, new.spec.class_of) != (old.spec.kind, old.spec.class_of):
        return False
    shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (new, old)]
    return shapes[0] == shapes[1]
