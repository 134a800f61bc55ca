"""An ONNX file as a function of arrays, and the check that it is the network that was wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from cropfirst.core.errors import BundleError

_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
Shape = tuple[int | None, ...]
"""Size of each dimension; None = any."""


class OnnxNetwork:
    """A network on the CPU. Any number of threads may call `run` at once."""

    def __init__(
        self,
        raw: bytes,
        name: str,
        *,
        inputs: Mapping[str, Shape],
        outputs: Mapping[str, Shape],
        threads: int,
    ) -> None:
        """Load a network and check its input and outputs.

        Args:
            raw: content of the ONNX file.
            name: name of the file, for messages.
            inputs, outputs: name -> shape, in this order; all are float32.
            threads: number of threads of one call.

        Raises:
            BundleError: it is not an ONNX file, or not the network that was wanted.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # Threads that spin while they wait take the cores from each other and from other programs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Weights in other files would be read from the working directory: from here there are none.
        options.add_session_config_entry(_WEIGHTS_FOLDER, "/dev/null")
        try:
            session = ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common class of its errors
            raise BundleError(f"{name} cannot be loaded: {str(error)[:300]}") from error
        _check(name, "input", session.get_inputs(), inputs)
        _check(name, "output", session.get_outputs(), outputs)
        self._session, self._input, self._outputs = session, next(iter(inputs)), list(outputs)

    def run(self, array: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the outputs of a float32 batch, in order."""
        return tuple(self._session.run(self._outputs, {self._input: array}))


def _check(name: str, kind: str, found: Any, wanted: Mapping[str, Shape]) -> None:
    got = {each.name: (each.type, tuple(each.shape)) for each in found}
    fits = list(got) == list(wanted) and all(
        kind_of == "tensor(float)" and _fits(shape, wanted[each])
        for each, (kind_of, shape) in got.items()
    )
    if not fits:
        raise BundleError(
            f"{name} is not the network that the manifest names: wanted {kind} {dict(wanted)}, "
            f"got { {each: shape for each, (_, shape) in got.items()} }; do not use this bundle"
        )


def _fits(shape: tuple[Any, ...], wanted: Shape) -> bool:
    """Return whether a network's shape is the wanted one; its free sizes are texts or None."""
    return len(shape) == len(wanted) and all(
        got == size if size is not None else not isinstance(got, int)
        for got, size in zip(shape, wanted, strict=True)
    )
