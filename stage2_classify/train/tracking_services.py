"""Trackers of external tools: W&B, MLflow, trackio.

Each has its own extra and is imported when it is opened. The tools find server, login and mode by
their own environment variables.
"""

from __future__ import annotations

import fcntl
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from cropfirst.configs import flatten
from cropfirst.stage2_classify.train.tracked_fold import TrackedFold

START_HINTS = {
    "tensorboard": "look at the disk",
    "wandb": "run `wandb login`, or set WANDB_MODE=offline",
    "mlflow": "start the server that MLFLOW_TRACKING_URI names, or unset it for a local file",
    "trackio": "look at TRACKIO_DIR",
}
"""Tracker -> what to do if it does not start."""
PARAMS_AT_ONCE = 100
"""MLflow's limit for one request."""


class WandbTracker:
    """Weights & Biases: one run per fold, grouped by run; WANDB_MODE=offline stays on this disk."""

    def __init__(self, about: TrackedFold) -> None:
        import wandb

        run_id = _id_of(about, "wandb", uuid4().hex[:12])
        with _quiet():
            self._run: Any = wandb.init(
                project=about.project,
                group=about.run,
                name=about.name,
                id=run_id,
                resume="allow",
                dir=str(about.folder),
                config=flatten(about.config),
                settings=wandb.Settings(silent=True, console="off"),
            )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log one epoch as a step of the run."""
        with _quiet():
            self._run.log({"epoch": step, **scalars}, step=step)

    def close(self, *, failed: bool = False) -> None:
        """Upload or write what is left."""
        with _quiet():
            self._run.finish(exit_code=int(failed))


class MlflowTracker:
    """MLflow: one run per fold, at MLFLOW_TRACKING_URI or else in mlflow.db beside the runs."""

    def __init__(self, about: TrackedFold) -> None:
        # By default, it retries for minutes per call, during which training would stop.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        runs_dir = about.folder.parent.parent
        file = runs_dir / "mlflow.db"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{file.resolve()}"
        with _quiet(), _one_at_a_time(runs_dir / "mlflow.lock", uri.startswith("sqlite:")):
            from mlflow.tracking import MlflowClient

            self._client: Any = MlflowClient(uri)
            self._run = _id_of(about, "mlflow", "")
            if not self._run:
                self._run = self._begin(about)
                about.remember("mlflow", self._run)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log all scalars of the epoch in one request."""
        with _quiet():
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [Metric(name, float(value), now, step) for name, value in scalars.items()]
            self._client.log_batch(self._run, metrics=metrics)

    def close(self, *, failed: bool = False) -> None:
        """Mark the run as finished or failed."""
        with _quiet():
            self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")

    def _begin(self, about: TrackedFold) -> str:
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(about.project)
        experiment = (
            self._client.create_experiment(about.project) if found is None else found.experiment_id
        )
        tags = {"run": about.run, "fold": str(about.fold)}
        run = self._client.create_run(experiment, run_name=about.name, tags=tags)
        params = [Param(key, str(value)) for key, value in flatten(about.config).items()]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            part = params[start : start + PARAMS_AT_ONCE]
            self._client.log_batch(run.info.run_id, params=part)
        return str(run.info.run_id)


class TrackioTracker:
    """trackio: one run per fold, grouped by run, in files in TRACKIO_DIR."""

    def __init__(self, about: TrackedFold) -> None:
        import trackio

        name = _id_of(about, "trackio", f"{about.name}-{uuid4().hex[:6]}")
        with _quiet():
            self._run: Any = trackio.init(
                project=about.project,
                group=about.run,
                name=name,
                resume="allow",
                config=flatten(about.config),
                embed=False,
            )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log one epoch as a step of the run."""
        with _quiet():
            self._run.log(dict(scalars), step=step)

    def close(self, *, failed: bool = False) -> None:
        """Write what is left."""
        with _quiet():
            self._run.finish()


def _id_of(about: TrackedFold, tracker: str, new: str) -> str:
    """Return the id under which a resumed fold logged, else a new one, saved unless empty."""
    found = about.recall(tracker) if about.first_epoch > 1 else None
    if found is None and new:
        about.remember(tracker, new)
    return found or new


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignore warnings about the tools' own dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _one_at_a_time(path: Path, needed: bool) -> Iterator[None]:
    """Hold a lock if needed: two processes must not create MLflow's SQLite tables at once."""
    if not needed:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
