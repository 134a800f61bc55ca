"""Functions compiled to machine code by Numba, once per machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

_GENERATING_FILES = ("vectors.py", "llvm.py", "winograd.py")
"""Files whose text becomes part of the machine code of functions in other files."""

if numba.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set, and the engine is compiled code")


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function on first use, and keep its machine code on disk where that is safe.

    Numba keeps machine code beside the .pyc files, or in its own cache folder. It compiles again
    when the function's own file has changed; the stamp added here makes it do so when one of
    `_GENERATING_FILES` has changed, too. No public name reaches that stamp: with a version of
    Numba that has none, nothing is kept, and every process compiles for itself.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        function_on_disk = numba.njit(function, cache=True, **options)
        index = function_on_disk._cache._cache_file
        index._source_stamp = (index._source_stamp, _generating_text())
    except (RuntimeError, AttributeError):  # no folder to write to, or another Numba
        return numba.njit(function, **options)
    return function_on_disk


@cache
def _generating_text() -> str:
    text = b"".join((Path(__file__).parent / name).read_bytes() for name in _GENERATING_FILES)
    return hashlib.sha256(text).hexdigest()
