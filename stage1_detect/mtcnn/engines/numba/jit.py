"""Python compiled to machine code by Numba, once a machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

from cropfirst.core.errors import DetectError

_BUILT_IN = ("vectors.py", "llvm.py", "winograd.py")
"""Files whose text goes into the machine code of others."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, and keep the machine code beside the .pyc files where that can be."""
    if numba.config.DISABLE_JIT:  # then nothing is compiled, see `check_compiler`
        return function
    options = {"nogil": True, "error_model": "numpy"}
    try:
        made = numba.njit(function, cache=True, **options)
    except RuntimeError:  # nowhere to write: then each process compiles anew
        return numba.njit(function, **options)
    # Numba takes what it kept for current while the function's own file is as it was. A test holds
    # it to this stamp, which no public name reaches.
    kept = made._cache._cache_file
    kept._source_stamp = (*kept._source_stamp, _text_of_files())
    return made


def check_compiler() -> None:
    """Raises DetectError where Numba was told to compile nothing."""
    if numba.config.DISABLE_JIT:
        raise DetectError(
            "NUMBA_DISABLE_JIT is set, and on the CPU the detector is compiled code: unset it"
        )


@cache
def _text_of_files() -> str:
    text = b"".join((Path(__file__).parent / name).read_bytes() for name in _BUILT_IN)
    return hashlib.sha256(text).hexdigest()
