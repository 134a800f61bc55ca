"""Trackers of each epoch's scalars: a CSV file always, TensorBoard and services if asked for.

A tracker has `log(step, scalars)` and `close()`, and knows nothing of what the numbers mean. The
CSV is part of a run, so its errors end the run. Any other tracker may fail without harm.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from cropfirst.core.errors import TrainError
from cropfirst.core.files import write_atomic
from cropfirst.core.stopping import signals_held
from cropfirst.stage2_classify.train.tracked_fold import TrackedFold

PACKAGES = {"wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
"""Tracker -> the package that it needs, which is also the name of the extra with it."""


class Tracker(Protocol):
    """Interface of a tracker."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Record one epoch."""

    def close(self, *, failed: bool = False) -> None:
        """Write what is left; `failed` tells that training did not reach its end."""


class CsvTracker:
    """A CSV file that is complete after every epoch, because each time all of it is written."""

    def __init__(self, path: Path, *, rows: Sequence[Mapping[str, float]] = ()) -> None:
        """Continue after `rows`, the epochs that a resumed run already has."""
        self.path = path
        self._rows: list[Mapping[str, float]] = list(rows)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append one row and replace the file."""
        self._rows.append({"epoch": step, **scalars})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(self._rows[0]))
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomic(self.path, text.getvalue().encode())

    def close(self, *, failed: bool = False) -> None:
        """Do nothing: the file is complete."""


class TensorBoardTracker:
    """TensorBoard event files; epochs from `purge_step` on replace those of a killed run."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.utils.tensorboard import SummaryWriter

            self._writer: Any = SummaryWriter(str(folder), purge_step=purge_step)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write one point per scalar, all of them even if a signal arrives."""
        with signals_held(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def close(self, *, failed: bool = False) -> None:
        """Close the event file."""
        with signals_held():
            self._writer.close()


class Trackers:
    """A CSV file and other trackers together; a context manager that closes them."""

    def __init__(
        self, csv_file: CsvTracker, *others: Tracker, warn: Callable[[str], None] = warnings.warn
    ) -> None:
        """Join trackers.

        Args:
            warn: called once for each tracker that fails, which then gets nothing more.
        """
        self._csv = csv_file
        self._others = list(others)
        self._warn = warn

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log one epoch in all trackers; only the CSV's errors are raised."""
        self._csv.log(step, scalars)
        for tracker in list(self._others):
            try:
                tracker.log(step, scalars)
            except Exception as error:  # a service may raise anything; training is worth more
                self._others.remove(tracker)
                self._warn(
                    f"{_label(tracker)} failed at epoch {step} and gets nothing more "
                    f"({_short(error)}); {self._csv.path.name} goes on"
                )

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for tracker in self._others:
            try:
                tracker.close(failed=error is not None)
            except Exception as fault:  # as above
                self._warn(f"{_label(tracker)} could not be closed ({_short(fault)})")


def check_trackers(names: Sequence[str]) -> None:
    """Check that the trackers' packages are installed.

    Raises:
        TrainError: one is not installed; the message names the extra.
    """
    for name in names:
        package = PACKAGES.get(name)
        if package is not None and find_spec(package) is None:
            raise TrainError(
                f"--tracker {name} needs the package {package}, which is not installed: "
                f"pip install 'cropfirst[{name}]', or leave {name} out"
            )


def open_trackers(
    names: Sequence[str],
    about: TrackedFold,
    *,
    rows: Sequence[Mapping[str, float]],
    tensorboard: Path,
    warn: Callable[[str], None],
) -> Trackers:
    """Open the CSV file and the named trackers for one fold.

    Args:
        about: the fold.
        rows: epochs that a resumed run already has.
        tensorboard: folder of the event files.
        warn: called once for each tracker that fails.

    Raises:
        TrainError: a service does not start: not logged in, no server.
    """
    from cropfirst.stage2_classify.train import tracking_services as services

    builders: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoardTracker(tensorboard, purge_step=about.first_epoch),
        "wandb": lambda: services.WandbTracker(about),
        "mlflow": lambda: services.MlflowTracker(about),
        "trackio": lambda: services.TrackioTracker(about),
    }
    opened: list[Tracker] = []
    for name in names:
        if name == "csv":  # always there
            continue
        try:
            opened.append(builders[name]())
        except Exception as error:
            for tracker in opened:
                tracker.close(failed=True)
            raise TrainError(
                f"--tracker {name} does not start ({_short(error)}): {services.START_HINTS[name]}, "
                f"or leave {name} out"
            ) from error
    return Trackers(CsvTracker(about.folder / "history.csv", rows=rows), *opened, warn=warn)


def _label(tracker: Tracker) -> str:
    return type(tracker).__name__.removesuffix("Tracker")


def _short(error: Exception, *, limit: int = 200) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:limit]}{'...' if len(text) > limit else ''}"
