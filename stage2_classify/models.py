"""Backbones by their timm name, one linear head a task.

Knows crops as uint8 arrays and tasks as names with a number of classes; knows nothing of photos,
folds or losses.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from cropfirst.cache.errors import TrainError
from cropfirst.stage2_classify.weights import create_pretrained

# Arguments of timm.create_model that are not the architecture's: ours to set, or to read files.
RESERVED_KWARGS = frozenset(
    {
        "model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path",
        "cache_dir", "scriptable", "exportable", "no_jit", "features_only", "num_classes",
        "in_chans", "img_size", "drop_rate", "drop_path_rate",
    }
)  # fmt: skip


class Classifier(nn.Module):
    """A backbone that pools to features, dropout, and one linear head a task.

    Attributes:
        heads: one `nn.Linear` a task, in the order of `tasks`. A list, since a task's name may be
            no valid attribute name ("hair colour", "type").
        mean, std: per channel, RGB, for pixels in [0, 1]; not part of the state dict.
        layout: memory layout of the images that `prepare` gives.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        heads: Mapping[str, int],
        *,
        features: int,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(drop_rate)
        self.tasks = tuple(heads)
        self.heads = nn.ModuleList([nn.Linear(features, count) for count in heads.values()])
        self.image_size = image_size
        self.layout = torch.channels_last
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        for head in self.heads:
            assert isinstance(head, nn.Linear)
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)

    def prepare(self, crops: Tensor) -> Tensor:
        """Normalise (N, H, W, 3) RGB crops to (N, 3, H, W) float32 on the model's device.

        They are uint8, or float from 0 to 255.
        """
        crops = crops.to(self.mean.device, non_blocking=True)
        # Whole rows of interleaved pixels at once: a third of the time of 3 values at a time.
        rows = crops.to(torch.float32, copy=True).reshape(*crops.shape[:2], -1)
        mean, std = (each.flatten().repeat(crops.shape[2]) for each in (self.mean, self.std))
        images = rows.sub_(mean * 255).div_(std * 255).view(crops.shape)
        # The permuted view of NHWC values lies in channels_last memory already.
        return images.permute(0, 3, 1, 2).contiguous(memory_format=self.layout)

    def set_channels_last(self, on: bool) -> None:
        """Lay out weights and images as convolutions like them best, or plainly."""
        self.layout = torch.channels_last if on else torch.contiguous_format
        self.to(memory_format=self.layout)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, H, W) normalised float to {task: (N, classes) logits}."""
        features = self.dropout(self.backbone(images))
        return {task: head(features) for task, head in zip(self.tasks, self.heads, strict=True)}


def build_classifier(
    backbone: str,
    heads: Mapping[str, int],
    *,
    image_size: int,
    pretrained: bool = False,
    drop_rate: float = 0.0,
    drop_path_rate: float | None = None,
    kwargs: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Classifier:
    """Build a classifier on a timm backbone and try it once on an empty image.

    Args:
        backbone: any name timm knows, with or without a weights tag.
        heads: task -> number of classes, in the order of the logits.
        image_size: side of the square input in pixels.
        pretrained: load timm's published weights (hub cache first, then the network).
        drop_rate: dropout in front of the heads.
        drop_path_rate: stochastic depth; None is the backbone's own default.
        kwargs: more arguments for the backbone, e.g. `{"embed_dim": 48, "depths": [2, 2]}`.
        mean, std: None takes those the backbone was published with.

    Raises:
        TrainError: an unknown name, a size or argument the backbone refuses, or weights that
            cannot be had.
    """
    check_backbone(backbone)
    options = dict(kwargs or {})
    reserved = sorted(RESERVED_KWARGS & set(options))
    if reserved:
        raise TrainError(
            f"model.kwargs may hold only what shapes the backbone, not {', '.join(reserved)}: "
            "those have settings of their own (model.*, data.image_size, --weights)"
        )
    if drop_path_rate is not None:
        options["drop_path_rate"] = drop_path_rate
    body = _create(backbone, image_size=image_size, pretrained=pretrained, options=options)
    published = published_config(body)
    return Classifier(
        body,
        heads,
        features=_count_features(body, backbone, image_size),
        image_size=image_size,
        mean=tuple(published["mean"] if mean is None else mean),
        std=tuple(published["std"] if std is None else std),
        drop_rate=drop_rate,
    )


def published_config(body: nn.Module) -> dict[str, Any]:
    """What timm recorded of how a backbone was published: mean, std, where its weights lie."""
    return cast(dict[str, Any], body.pretrained_cfg)


def check_backbone(name: str) -> None:
    """Refuse a name timm does not know, and say which come nearest.

    Raises:
        TrainError: unknown name, or unknown weights tag of a known name.
    """
    import timm

    stem = name.partition(".")[0]
    if ":" not in name and timm.is_model(name):
        tags = timm.list_pretrained(f"{stem}.*") if "." in name else []
        if "." not in name or name in tags:
            return
        have = ", ".join(tags) or "none"
        raise TrainError(f"timm has no weights tag {name!r}; of {stem} it has: {have}")
    near = difflib.get_close_matches(stem, timm.list_models(), n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists the names"
    raise TrainError(f"timm knows no backbone {name!r}; {hint}")


def _create(
    name: str, *, image_size: int, pretrained: bool, options: Mapping[str, Any]
) -> nn.Module:
    """Call timm; `img_size` goes along for the architectures that take one."""
    import timm

    # A list from YAML or JSON stands for the tuple timm's signatures ask for.
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


@torch.inference_mode()
def _count_features(body: nn.Module, name: str, image_size: int) -> int:
    """Run one black image: proves that the size works, and says how many features come out."""
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
