"""joblib's dask backend, made to tell of tasks that dask gives up.

Dask gives a task up when several workers have died of it. joblib 1.6 then waits for its result for
ever, since it is called back for results alone.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from cropfirst.core.errors import BackendError

WAIT_S = 300
"""How long a cluster may be without a worker."""


@dataclass(frozen=True)
class GivenUp:
    """The result of a task that dask gave up."""

    error: BaseException


def register_dask() -> str:
    """Register the backend with joblib, for a `distributed.Client` that is open; returns its name.

    distributed must be installed.
    """
    from joblib import register_parallel_backend
    from joblib._dask import DaskDistributedBackend

    class TellingBackend(DaskDistributedBackend):
        def submit(self, func: Any, callback: Any = None) -> Any:
            def told(done: Future[Any]) -> None:
                error = done.exception()
                if error is not None and callback is not None:
                    callback(GivenUp(error))

            future = super().submit(func, callback)
            future.add_done_callback(told)
            return future

        def effective_n_jobs(self, n_jobs: int) -> int:
            # Of 1, joblib would do all the work in this very process.
            try:
                return max(int(super().effective_n_jobs(n_jobs)), 2)
            except TimeoutError as error:
                raise BackendError(
                    f"the dask cluster has had no worker for {WAIT_S} s: start some with dask "
                    "worker ADDRESS --nthreads 1"
                ) from error

        def retrieve_result_callback(self, out: Any) -> Any:
            # One result, of the one call: give out calls one by one (batch_size=1).
            if isinstance(out, GivenUp):
                return [out]
            return super().retrieve_result_callback(out)

    register_parallel_backend("cropfirst-dask", TellingBackend)
    return "cropfirst-dask"
