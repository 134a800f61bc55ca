"""The conclusion of an audit on a run and a task: whether the run uses the background.

A run that has learned nothing has no BG-Gap either, and an interval that reaches far above 0 does
not exclude a use. Neither is certified. Knows intervals; knows nothing of answers or photos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cropfirst.core.bootstrap import Interval
from cropfirst.stage2_classify.metrics.chance import ChanceTest

WIDE = 0.05
"""Upper bound of BG-Gap, as a difference of accuracies, above which an interval that includes 0 is
wide."""

Finding = Literal["uses the background", "no use was found", "cannot tell"]


@dataclass(frozen=True)
class Verdict:
    """The conclusion of an audit."""

    finding: Finding
    cause: str = ""
    """Cause of "cannot tell" in a few words; "" for the other findings."""
    reason: str = ""
    """The same as a sentence part with figures, which follows "since"."""

    def __str__(self) -> str:
        return f"{self.finding}: {self.cause}" if self.cause else self.finding


def conclude(gap: Interval | None, chance: ChanceTest, mixed: ChanceTest | None) -> Verdict:
    """Conclude whether a run uses the background.

    Args:
        gap: BG-Gap with its interval over people; None where no photo has both backgrounds.
        chance: of the run's out-of-fold predictions of the photos as they are.
        mixed: of its predictions of heads before backgrounds of their own class. Where these are no
            better than chance, no background could make them worse.
    """
    if gap is None or mixed is None:
        reason = "no photo was shown before both a background of its class and a random one"
        return Verdict("cannot tell", "no gap", reason)
    if gap.low > 0 and mixed.is_better:
        return Verdict("uses the background")
    for test, what in ((chance, "on the photos as they are"), (mixed, "on Mixed-Same")):
        if not test.is_better:
            reason = f"the run is no better than chance {what} ({test})"
            return Verdict("cannot tell", "at chance", reason)
    # Of what it knows beyond chance, more than half might come from the background.
    limit = min(WIDE, mixed.margin.value / 2)
    if gap.high > limit:
        reason = (
            f"the interval of BG-Gap is wide: it includes 0 and reaches {100 * gap.high:+.1f} "
            f"points, above {100 * limit:.1f}"
        )
        return Verdict("cannot tell", "wide interval", reason)
    return Verdict("no use was found")
