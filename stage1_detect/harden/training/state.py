"""Where a killed hardening goes on: one file, replaced whole after each round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cropfirst.core.errors import DetectError
from cropfirst.core.files import write_atomic
from cropfirst.stage1_detect.mtcnn.candidates import NetName


@dataclass(frozen=True)
class State:
    """What is done, and all that the rest hangs on."""

    fingerprint: str
    """Of the photos, the boxes and the settings."""
    rounds: int = 0
    """Of the net in training, done."""
    steps: int = 0
    """Of its optimiser."""
    losses: tuple[Mapping[str, float | str], ...] = ()
    """One entry a round, of all nets."""
    shifts: Mapping[str, float] = field(default_factory=dict)
    """What was added to the logit of each finished net."""

    def after_round(self, losses: Mapping[str, float | str], *, steps: int) -> State:
        """One round more."""
        return replace(self, rounds=self.rounds + 1, steps=steps, losses=(*self.losses, losses))

    def after_net(self, net: NetName, shift: float) -> State:
        """A net is finished."""
        return replace(self, rounds=0, steps=0, shifts={**self.shifts, net: shift})


def save_state(path: Path, state: State, tensors: Mapping[str, Tensor]) -> None:
    """Replace the file."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(whole, metadata={"state": json.dumps(asdict(state))}))


def load_state(path: Path, fingerprint: str) -> tuple[State, dict[str, Tensor]] | None:
    """What was saved; None where nothing was.

    Raises:
        DetectError: the file is damaged, or of other photos or settings.
    """
    if not path.exists():
        return None
    mend = f"delete {path.parent} to begin anew, or use another --out"
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {})["state"])
            state = State(**{**found, "losses": tuple(found["losses"])})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DetectError(f"{path} cannot be read ({error}): {mend}") from error
    if state.fingerprint != fingerprint:
        raise DetectError(
            f"{path.parent} holds a hardening with other photos, boxes or settings: {mend}"
        )
    return state, tensors
