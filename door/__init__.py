"""The door: what runs an exported bundle, on photos, streams, a server and a page.

It knows the bundle alone: no stage, no data set. It needs NumPy, OpenCV and ONNX Runtime, and
imports no torch. The public names are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cropfirst.door.bundle import Bundle
    from cropfirst.door.faces import Face, TaskAnswer

__all__ = ["Bundle", "Face", "TaskAnswer"]

_MODULES = {"Bundle": "bundle", "Face": "faces", "TaskAnswer": "faces"}
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"cropfirst.door.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
