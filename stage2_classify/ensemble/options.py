"""Reads the options of the ensemble command."""

from __future__ import annotations

from collections.abc import Sequence

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.ensemble.methods import ADJUSTMENTS, METHODS
from cropfirst.stage2_classify.ensemble.run import EnsembleOptions
from cropfirst.stage2_classify.ensemble.search import SearchSteps
from cropfirst.stage2_classify.predict.tta import TTA_KINDS
from cropfirst.stage2_classify.runs.choice import ChooseBy

SOUPS = ("epochs", "folds")


def parse_options(
    steps: str | None, *, routes: Sequence[str], tta: str | None, soup: str | None, batch_size: int,
    choose_by: ChooseBy = "auto",
) -> EnsembleOptions:  # fmt: skip
    """Check the texts of the options, all of which may be missing.

    Raises:
        TrainError: a name that does not exist; the message lists those that do.
    """
    names = _names("--steps", steps, (*METHODS, *ADJUSTMENTS))
    chosen = SearchSteps()
    if steps is not None:
        chosen = SearchSteps(
            tuple(each for each in METHODS if each in names),
            tuple(each for each in ADJUSTMENTS if each in names),
        )
    pairs = {}
    for route in routes:
        task, equals, by = route.partition("=")
        if not (task and equals and by):
            raise TrainError(f"--route needs TASK=BY, such as age=mask, got {route!r}")
        pairs[task] = by
    if "route" in names and not pairs:
        raise TrainError("--steps route needs a route: add --route TASK=BY, such as age=mask")
    return EnsembleOptions(
        chosen,
        _names("--tta", tta, TTA_KINDS),
        _names("--soup", soup, SOUPS),
        pairs,
        batch_size,
        choose_by,
    )


def _names(option: str, text: str | None, valid: Sequence[str]) -> tuple[str, ...]:
    """Return the names in a text with commas, in the order of the valid ones."""
    names = [name.strip() for name in (text or "").split(",")]
    names = [name for name in names if name not in ("", "none")]
    for name in names:
        if name not in valid:
            raise TrainError(f"{option} takes {', '.join(valid)}, got {name!r}")
    return tuple(name for name in valid if name in names)
