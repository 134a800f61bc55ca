"""State from which a killed hardening continues: one file, replaced after each round."""

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
class HardenState:
    """Progress of a hardening."""

    fingerprint: str
    """Hash of the photos, boxes and settings."""
    rounds: int = 0
    """Number of finished rounds of the net in training."""
    steps: int = 0
    """Number of its optimiser's steps."""
    losses: tuple[Mapping[str, float | str], ...] = ()
    """One entry per finished round, of all nets."""
    shifts: Mapping[str, float] = field(default_factory=dict)
    """Number added to the logit of each finished net."""

    def after_round(self, losses: Mapping[str, float | str], *, steps: int) -> HardenState:
        """Return the state with one more finished round."""
        return replace(self, rounds=self.rounds + 1, steps=steps, losses=(*self.losses, losses))

    def after_net(self, net: NetName, shift: float) -> HardenState:
        """Return the state with one more finished net."""
        return replace(self, rounds=0, steps=0, shifts={**self.shifts, net: shift})


def save_harden_state(path: Path, state: HardenState, tensors: Mapping[str, Tensor]) -> None:
    """Replace the state's file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(contiguous, metadata={"state": json.dumps(asdict(state))}))


def load_harden_state(path: Path, fingerprint: str) -> tuple[HardenState, dict[str, Tensor]] | None:
    """Read what `save_harden_state` wrote; None if there is no file.

    Raises:
        DetectError: the file is damaged, or belongs to other photos or settings.
    """
    if not path.exists():
        return None
    advice = f"delete {path.parent} to start again, or use another --out"
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {})["state"])
            state = HardenState(**{**found, "losses": tuple(found["losses"])})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DetectError(f"{path} cannot be read ({error}): {advice}") from error
    if state.fingerprint != fingerprint:
        raise DetectError(
            f"{path.parent} holds a hardening with other photos, boxes or settings: {advice}"
        )
    return state, tensors
