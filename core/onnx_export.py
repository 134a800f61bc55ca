"""Write a PyTorch module as one ONNX file, and check that ONNX Runtime can run it.

Knows modules and shapes; knows nothing of what a network is for. Imports no torch before it is
called.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cropfirst.core.errors import BundleError

if TYPE_CHECKING:
    from torch import nn

OPSET = 18
"""Version of ONNX's operators that files are written for."""
BATCHES = (0, 1, 3)
"""Sizes of the batches that a written file is tried with."""


def check_packages() -> None:
    """Check that the packages of the extra `export` are installed.

    Raises:
        BundleError: one is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BundleError(
            f"export needs the package {error.name}: pip install 'cropfirst[export]'"
        ) from error


def to_onnx(
    module: nn.Module,
    shape: Sequence[int],
    *,
    input_name: str,
    output_names: Sequence[str],
    free: Mapping[int, str],
    smallest: Mapping[int, int] | None = None,
) -> bytes:
    """Return the content of an ONNX file with float32 input and outputs and a free batch size.

    Args:
        module: takes one tensor, returns one or a tuple of them; in eval mode.
        shape: an example of the input's shape, without the batch.
        free: dimension of the input, other than the batch, that may have any size -> its name.
        smallest: dimension -> its least size; 1 where none is given.

    Raises:
        BundleError: the module cannot be written as ONNX, or gives another shape there.
    """
    import onnx
    import torch

    least = smallest or {}
    dims = {0: torch.export.Dim("batch")} | {
        at: torch.export.Dim(name, min=least.get(at, 1)) for at, name in free.items()
    }
    example = torch.zeros(2, *shape)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module, (example,), dynamo=True, external_data=False, opset_version=OPSET,
                input_names=[input_name], output_names=list(output_names),
                dynamic_shapes=(dims,), verbose=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise BundleError(
                f"this network cannot be written as ONNX: {str(error).strip()[:500]}"
            ) from error
    assert program is not None
    raw: bytes = program.model_proto.SerializeToString()
    onnx.checker.check_model(raw, full_check=True)
    _try_batches(module, raw, shape, input_name)
    return raw


def _try_batches(module: nn.Module, raw: bytes, shape: Sequence[int], input_name: str) -> None:
    """Run a file at 0, 1 and several items, and compare its shapes with the module's."""
    import onnxruntime as ort
    import torch

    options: Any = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = module(torch.zeros(1, *shape))
    sizes = [tuple(each.shape[1:]) for each in (wanted if isinstance(wanted, tuple) else (wanted,))]
    for count in BATCHES:
        found = session.run(None, {input_name: np.zeros((count, *shape), np.float32)})
        got = [each.shape for each in found]
        if got != [(count, *size) for size in sizes]:
            raise BundleError(
                f"a network gives {got} for {count} items with ONNX Runtime, wanted {sizes}"
            )
