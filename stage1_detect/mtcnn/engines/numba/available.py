"""Whether the Numba engine can run here. Importing this file imports no Numba."""

from __future__ import annotations

from functools import cache


@cache
def numba_problem() -> str | None:
    """Return why the Numba engine cannot run in this environment, None where it can."""
    try:
        import cropfirst.stage1_detect.mtcnn.engines.numba.engine  # noqa: F401
    except Exception as error:  # a missing, broken or unknown version of Numba may raise anything
        return f"{type(error).__name__}: {error}"
    return None
