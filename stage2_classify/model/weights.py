"""Initial weights of backbones: published ones, from a package or timm's hub, and `--weights FILE`.

Reads safetensors, and what timm fetches from its hub; knows nothing of heads or training.
"""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cropfirst.core.errors import HubError, TrainError
from cropfirst.stage2_classify.config import SHIPPED
from cropfirst.stage2_classify.model.packaged_weights import (
    EXTRA,
    PACKAGES,
    installed_package,
    load_packaged_weights,
)

SOURCES = ("hf_hub_id", "url", "file", "state_dict", "custom_load")
OFFLINE_HELP = (
    "train from scratch with --no-pretrained, give a file with --weights FILE (safetensors), "
    "or populate the hub cache (HF_HOME; TORCH_HOME for inception_resnet_v1) on a machine that is "
    "online"
)


@dataclass(frozen=True)
class WeightsReport:
    """The keys of a weights file and of a backbone's state dict: in both, or in one alone."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_backbone_weights(backbone: nn.Module, path: Path) -> WeightsReport:
    """Load a safetensors file into the backbone; heads stay unchanged.

    Keys may be timm's or those of a cropfirst checkpoint. timm adapts weights to another image size
    (position embeddings, window biases) where it can.

    Raises:
        TrainError: not a safetensors file, a tensor of another shape, or no matching key.
    """
    state = _adapt(backbone, _read_safetensors(path), path)
    own = backbone.state_dict()
    matched = tuple(key for key in own if key in state)
    if not matched:
        raise TrainError(
            f"{path} holds nothing of this backbone: wanted keys such as "
            f"{', '.join(list(own)[:3])}, it has {', '.join(list(state)[:3]) or 'none'}"
        )
    wrong = [key for key in matched if state[key].shape != own[key].shape]
    if wrong:
        key = wrong[0]
        raise TrainError(
            f"{path} is of another architecture: {len(wrong)} tensors differ in shape, first "
            f"{key}: wanted {tuple(own[key].shape)}, got {tuple(state[key].shape)}. Give the "
            "backbone that the file was made for with --backbone; --weights faces needs none"
        )
    backbone.load_state_dict({key: state[key] for key in matched}, strict=False)
    return WeightsReport(
        matched=matched,
        missing=tuple(key for key in own if key not in state),
        unexpected=tuple(key for key in state if key not in own),
    )


def create_pretrained(
    name: str, create: Callable[..., nn.Module], *, published: Mapping[str, Any]
) -> nn.Module:
    """Build a backbone with published weights: from a package (`PACKAGES`) that is installed, from
    the hub's cache, or else from the hub.

    Raises:
        HubError: they are in neither, and the hub cannot be reached.
        TrainError: there are none, or they cannot be loaded.
    """
    package = installed_package(name)
    if package is not None:
        body = create(load=False)
        load_packaged_weights(body, name, package)
        return body
    if not any(published.get(key) for key in SOURCES):
        raise TrainError(f"timm has no pretrained weights for {name!r}: {_offline_help(name)}")
    overlay = None
    if published.get("hf_hub_id"):
        cached = _cached_file(str(published["hf_hub_id"]), published.get("hf_hub_filename"))
        if cached is None:
            _check_hub(name)
        else:
            overlay = {"file": cached}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning)  # timm's resampling
            return create(load=True, overlay=overlay)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TrainError(_no_space(name)) from error
        raise TrainError(
            f"the pretrained weights of {name!r} could not be loaded "
            f"({type(error).__name__}: {str(error)[:300]}): {_offline_help(name)}"
        ) from error


def describe_source(name: str) -> str:
    """Return where `create_pretrained` takes the weights of a backbone from, as part of a line."""
    package = installed_package(name)
    return f"the package {package.name}" if package is not None else "timm's hub, or its cache"


def _offline_help(name: str) -> str:
    """Return the ways to go on without a hub."""
    if name.partition(".")[0] in PACKAGES:
        return f"{EXTRA} brings them without a hub; or {OFFLINE_HELP}"
    held = ", ".join(PACKAGES)
    return f"{OFFLINE_HELP}; or take a backbone whose weights {EXTRA} brings: --backbone {held}"


def _no_space(name: str) -> str:
    from huggingface_hub import constants

    return (
        f"there is no space left for the pretrained weights of {name!r}, which are downloaded to "
        f"{constants.HF_HUB_CACHE}: free some, or name a folder of another disk with HF_HOME "
        "(TORCH_HOME for inception_resnet_v1)"
    )


def _cached_file(repo: str, filename: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    repo, _, revision = repo.partition("@")
    names = [filename] if filename else ["model.safetensors", "pytorch_model.bin"]
    for name in names:
        found = try_to_load_from_cache(repo, name, revision=revision or None)
        if isinstance(found, str):
            return found
    return None


def _check_hub(name: str, *, timeout: float = 5.0) -> None:
    """Check once that the hub answers: its own client would retry for most of a minute.

    Raises:
        HubError: the hub cannot be reached.
    """
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=timeout)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise HubError(
            f"the pretrained weights of {name!r} are not in the hub cache and "
            f"{constants.ENDPOINT} cannot be reached ({reason[0]})",
            _offline_help(name),
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise TrainError(
            f"--weights expects a safetensors file or {', '.join(SHIPPED)}, there is no file {path}"
        )
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise TrainError(
            f"--weights expects a safetensors file, {path} is none ({error}); convert a .pth with "
            "safetensors.torch.save_file(torch.load(FILE, weights_only=True), OUT)"
        ) from error
    prefix = "backbone."
    if any(key.startswith(prefix) for key in state):
        state = {key[len(prefix) :]: v for key, v in state.items() if key.startswith(prefix)}
    return state


def _adapt(body: nn.Module, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Apply the architecture's own conversion of keys and sizes, a convention of timm's modules."""
    convert = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning)  # timm's resampling
            adapted: dict[str, Tensor] = convert(dict(state), body)
    except (KeyError, RuntimeError, ValueError, IndexError, AttributeError) as error:
        raise TrainError(f"{path} does not fit this backbone: {error}") from error
    return adapted
