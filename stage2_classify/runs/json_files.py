"""The JSON files of a run. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cropfirst.core.errors import TrainError
from cropfirst.core.files import write_atomic


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write readable JSON in one step; NaN is an error, because JSON has none."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        TrainError: the file cannot be read, or contains no JSON object.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise TrainError(f"{path} cannot be read ({error}): train again") from error
    except (ValueError, RecursionError) as error:
        raise TrainError(
            f"{path} is not JSON ({error}): cropfirst did not write it; copy it again or retrain"
        ) from error
    if not isinstance(data, dict):
        raise TrainError(
            f"{path} holds no JSON object: cropfirst did not write it; copy it again or retrain"
        )
    return data
