"""Backbones by name: those of timm, facenet-pytorch's face network, or two of them together.

Knows images and features; knows nothing of tasks, heads or crops.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.model.weights import create_pretrained

# Arguments of timm.create_model that do not shape the architecture: set here, or reading files.
RESERVED_KWARGS = frozenset(
    {
        "model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path",
        "cache_dir", "scriptable", "exportable", "no_jit", "features_only", "num_classes",
        "in_chans", "img_size", "drop_rate", "drop_path_rate",
    }
)  # fmt: skip
FACENET = "inception_resnet_v1"
FACENET_TAGS = {
    "vggface2": "20180402-114759-vggface2.pt",
    "casia-webface": "20180408-102900-casia-webface.pt",
}
"""Released weights of facenet-pytorch; its wheel has only those of the detector."""
FACENET_RELEASE = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"


class TwoBackbones(nn.Module):
    """Two backbones on the same images, with their features concatenated."""

    scale: Tensor
    shift: Tensor

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        """Join two backbones; images are normalised for `first`, and converted for `second`."""
        super().__init__()
        self.bodies = nn.ModuleList([first, second])
        self.pretrained_cfg = published_config(first)
        mean, std = (_tables(self.pretrained_cfg, key) for key in ("mean", "std"))
        mean2, std2 = (_tables(published_config(second), key) for key in ("mean", "std"))
        self.register_buffer("scale", std / std2, persistent=False)
        self.register_buffer("shift", (mean - mean2) / std2, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, features of both) of (N, 3, H, W) images."""
        first, second = self.bodies
        return torch.cat([first(images), second(images * self.scale + self.shift)], dim=1)

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that the backbones exempt from weight decay."""
        return {
            f"bodies.{index}.{name}"
            for index, body in enumerate(self.bodies)
            for name in getattr(body, "no_weight_decay", set)()
        }


def build_backbone(
    name: str,
    *,
    image_size: int,
    pretrained: bool = False,
    drop_path_rate: float | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a backbone that pools to features.

    Raises:
        TrainError: an unknown name, a size or argument that the backbone refuses, or weights that
            cannot be fetched.
    """
    check_backbone(name)
    options = dict(kwargs or {})
    reserved = sorted(RESERVED_KWARGS & set(options))
    if reserved:
        raise TrainError(
            f"model.kwargs may hold only what shapes the backbone, not {', '.join(reserved)}: "
            "those have settings of their own (model.*, data.image_size, --weights)"
        )
    if drop_path_rate is not None:
        options["drop_path_rate"] = drop_path_rate
    if name.partition(".")[0] == FACENET:
        return _create_facenet(name, pretrained=pretrained, options=options)
    return _create(name, image_size=image_size, pretrained=pretrained, options=options)


def published_config(body: nn.Module) -> dict[str, Any]:
    """Return timm's record of a published backbone: mean, std, source of its weights."""
    return cast("dict[str, Any]", body.pretrained_cfg)


def check_backbone(name: str) -> None:
    """Check the name of a backbone.

    Raises:
        TrainError: an unknown name, or an unknown weights tag; the message lists similar names.
    """
    import timm

    stem, _, tag = name.partition(".")
    if stem == FACENET:
        if tag in {"", *FACENET_TAGS}:
            return
        raise TrainError(f"{FACENET} has no weights tag {tag!r}: it has {', '.join(FACENET_TAGS)}")
    if ":" not in name and timm.is_model(name):
        tags = _weights_tags(stem) if "." in name else []
        if "." not in name or name in tags:
            return
        have = ", ".join(tags) or "none"
        raise TrainError(f"timm has no weights tag {name!r}; of {stem} it has: {have}")
    known = [*timm.list_models(), FACENET]
    near = difflib.get_close_matches(stem, known, n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists the names"
    raise TrainError(f"timm knows no backbone {name!r}; {hint}")


@cache
def _weights_tags(stem: str) -> list[str]:
    """Return all names of a backbone with a tag; timm goes through its whole list for them."""
    import timm

    return [str(name) for name in timm.list_pretrained(f"{stem}.*")]


def _create(
    name: str, *, image_size: int, pretrained: bool, options: Mapping[str, Any]
) -> nn.Module:
    """Build a timm backbone, with `img_size` if the architecture takes it."""
    import timm

    # timm's signatures take tuples, where YAML and JSON have lists.
    tupled = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}

    def create(*, load: bool, overlay: dict[str, Any] | None = None) -> nn.Module:
        def call(**more: Any) -> nn.Module:
            return timm.create_model(
                name,
                pretrained=load,
                pretrained_cfg_overlay=overlay,
                num_classes=0,
                **tupled,
                **more,
            )

        try:
            return call(img_size=image_size)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return call()

    try:
        body = create(load=False)
    except Exception as error:
        wanted = f" with {dict(options)}" if options else ""
        raise TrainError(
            f"backbone {name!r} cannot be built for {image_size}x{image_size} crops{wanted}: "
            f"{error}; change data.image_size, model.* or --backbone"
        ) from error
    if not pretrained:
        return body
    return create_pretrained(name, create, published=published_config(body))


def _create_facenet(name: str, *, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    """Build facenet-pytorch's InceptionResnetV1 (MIT), pooled to 512 features before their norm."""
    from facenet_pytorch import InceptionResnetV1

    def create(*, load: bool, overlay: dict[str, Any] | None = None) -> nn.Module:
        # `classify` without a classifier: otherwise the features would be scaled to length 1.
        body = InceptionResnetV1(classify=True, num_classes=1, dropout_prob=0.0)
        body.logits = nn.Identity()
        if load:
            state = torch.hub.load_state_dict_from_url(
                published["url"], map_location="cpu", weights_only=True
            )
            body.load_state_dict({k: v for k, v in state.items() if not k.startswith("logits.")})
        body.pretrained_cfg = published
        return cast("nn.Module", body)

    if options:
        given = ", ".join(f"{key}={value}" for key, value in options.items())
        raise TrainError(f"backbone {FACENET} takes no model.kwargs or drop_path_rate, got {given}")
    tag = name.partition(".")[2] or "vggface2"
    half = [0.5] * 3
    # As facenet-pytorch normalises: (pixel - 127.5) / 128.
    published: dict[str, Any] = {
        "url": FACENET_RELEASE + FACENET_TAGS[tag],
        "mean": half,
        "std": [128 / 255] * 3,
    }
    body = create(load=False)
    return create_pretrained(name, create, published=published) if pretrained else body


def _tables(published: Mapping[str, Any], key: str) -> Tensor:
    return torch.tensor(published[key], dtype=torch.float32).view(1, 3, 1, 1)


@torch.inference_mode()
def count_features(body: nn.Module, name: str, image_size: int) -> int:
    """Return the number of features, by running one black image, which also tests the size."""
    body.eval()
    try:
        features = body(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:
        raise TrainError(
            f"backbone {name!r} refuses {image_size}x{image_size} crops: {error}; "
            "change data.image_size (multiples of 32 suit most) or --backbone"
        ) from error
    if features.ndim != 2:
        shape = tuple(features.shape)
        raise TrainError(f"backbone {name!r} gives {shape}, not (N, features): pick another")
    return int(features.shape[1])
