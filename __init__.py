"""Classify people in photographs by their faces, not by the room behind them.

The public names are loaded on first use: `import cropfirst` imports no torch. docs/library.md
shows how to use them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cropfirst.api import detect, predict, train
    from cropfirst.cache import CropSet
    from cropfirst.stage1_detect.mtcnn.detector import MTCNN, Detections
    from cropfirst.stage2_classify.predict.predictor import Predictor

__all__ = ["MTCNN", "CropSet", "Detections", "Predictor", "detect", "predict", "train"]

_MODULES = {
    "MTCNN": "cropfirst.stage1_detect.mtcnn.detector",
    "CropSet": "cropfirst.cache",
    "Detections": "cropfirst.stage1_detect.mtcnn.detector",
    "Predictor": "cropfirst.stage2_classify.predict.predictor",
    "detect": "cropfirst.api",
    "predict": "cropfirst.api",
    "train": "cropfirst.api",
}
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
