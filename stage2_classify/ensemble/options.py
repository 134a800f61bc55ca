"""The ensemble command's flags as what is to be tried."""

from __future__ import annotations

from collections.abc import Sequence

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.ensemble.run import Options
from cropfirst.stage2_classify.ensemble.search import FINISHES, WAYS, Settings
from cropfirst.stage2_classify.predict.tta import KINDS

SOUPS = ("epochs", "folds")


def parse_options(
    steps: str | None, *, routes: Sequence[str], tta: str | None, soup: str | None, batch_size: int
) -> tuple[Settings, Options]:
    """Check the flags, all of which may be absent.

    Raises:
        TrainError: a name that does not exist; says those that do.
    """
    settings = Settings()
    if steps is not None:
        names = _names("--steps", steps, (*WAYS, *FINISHES))
        ways = ("equal", *(way for way in WAYS if way in names and way != "equal"))
        settings = Settings(ways, tuple(each for each in FINISHES if each in names))
    pairs = {}
    for route in routes:
        task, equals, by = route.partition("=")
        if not (task and equals and by):
            raise TrainError(f"--route wants TASK=BY, such as age=mask, got {route!r}")
        pairs[task] = by
    if "route" in (steps or "").split(",") and not pairs:
        raise TrainError(
            "--steps route wants to know which: give --route TASK=BY, such as age=mask"
        )
    views = _names("--tta", tta or "", KINDS)
    soups = _names("--soup", soup or "", SOUPS)
    return settings, Options(views, soups, pairs, batch_size)


def _names(flag: str, text: str, valid: Sequence[str]) -> tuple[str, ...]:
    """Names with commas, in the order of the valid ones."""
    names = [name.strip() for name in text.split(",") if name.strip() not in ("", "none")]
    for name in names:
        if name not in valid:
            raise TrainError(f"{flag} knows {', '.join(valid)}, got {name!r}")
    return tuple(name for name in valid if name in names)
