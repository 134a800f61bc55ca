"""The predictions that choices go by: in swapped rooms where all runs have them, else out of fold.

Knows `OofPredictions`; scores nothing. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.runs.oof_predictions import OofPredictions
from cropfirst.stage2_classify.runs.swapped_scores import UNCHECKED

Kind = Literal["oof", "swapped"]
ChooseBy = Literal["auto", "oof", "swapped"]
SCORE_NAMES: dict[Kind, str] = {"oof": "out-of-fold F1", "swapped": "swapped-rooms F1"}
"""Kind of predictions -> name of macro F1 on them."""
_MAKE = "run cropfirst detect DATA --swap-rooms, then each run's train command again"


@dataclass(frozen=True)
class Choice:
    """The predictions that some runs are compared by."""

    kind: Kind
    oofs: tuple[OofPredictions, ...]
    """The runs' predictions of that kind, in the order that the runs were given."""
    note: str = ""
    """Why it is not the swapped rooms; "" where it is, or was not wanted."""

    @property
    def score_name(self) -> str:
        """Name of macro F1 on these predictions."""
        return SCORE_NAMES[self.kind]


def choose_predictions(oofs: Sequence[OofPredictions], choose_by: ChooseBy = "auto") -> Choice:
    """Return the predictions that runs are compared by.

    All runs are compared by predictions of the same kind: a score in swapped rooms is no better or
    worse than one out of fold, but another quantity.

    Args:
        choose_by: `auto` takes the swapped rooms where every run has predictions there.

    Raises:
        TrainError: `swapped` is wanted, and some run has no predictions there.
    """
    missing = [oof.name for oof in oofs if oof.swapped is None]
    if choose_by == "oof" or (choose_by == "auto" and missing):
        note = f"{UNCHECKED}: {', '.join(missing)}; {_MAKE}"
        return Choice("oof", tuple(oofs), note if missing else "")
    if missing:
        raise TrainError(
            f"--choose-by swapped needs predictions in swapped rooms, and {', '.join(missing)} has "
            f"none: {_MAKE}, or take --choose-by oof"
        )
    return Choice("swapped", tuple(oof.swapped for oof in oofs if oof.swapped is not None))
