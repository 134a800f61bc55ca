"""The classifier: a backbone with one head per task.

Knows crops as uint8 tensors, and tasks as names with the specs of their heads; knows nothing of
photos, folds or losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cropfirst.stage2_classify.model.backbones import (
    TwoBackbones,
    build_backbone,
    count_features,
    published_config,
)
from cropfirst.stage2_classify.model.head_spec import HeadSpec
from cropfirst.stage2_classify.model.heads import Head


class Classifier(nn.Module):
    """A backbone that pools to features, dropout, and one head per task.

    Attributes:
        heads: one `Head` per task, in the order of `tasks`. A list, because a task's name may not
            be a valid attribute name ("hair colour", "type").
        mean, std: per channel, RGB, for pixels in [0, 1]; not part of the state dict.
        layout: memory layout of the images that `prepare` returns.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        heads: Mapping[str, HeadSpec],
        *,
        features: int,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        drop_rate: float = 0.0,
        hidden: int = 0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(drop_rate)
        self.tasks = tuple(heads)
        shape = {"hidden": hidden, "batch_norm": batch_norm, "drop_rate": drop_rate}
        self.heads = nn.ModuleList(
            [Head(spec, features=features, **shape) for spec in heads.values()]  # type: ignore[arg-type]
        )
        self.image_size = image_size
        self.layout = torch.channels_last
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def prepare(
        self, crops: Tensor, *, lights: Tensor | None = None, buffer: Tensor | None = None
    ) -> Tensor:
        """Normalise (N, H, W, 3) RGB crops to (N, 3, H, W) float32 on the model's device.

        Args:
            crops: uint8, or float from 0 to 255.
            lights: (N, 2) float32 factor and summand of each crop's values 0-255, which may then
                exceed 0 or 255; None = (1, 0).
            buffer: float32 memory on the device that the result is written to, in channels_last;
                at least as long as the crops. None takes new memory.
        """
        crops = crops.to(self.mean.device, non_blocking=True)
        # Complete rows of interleaved pixels take a third of the time of 3 values at a time.
        shape = (*crops.shape[:2], crops.shape[2] * 3)
        if buffer is None:
            buffer = torch.empty(crops.numel(), device=crops.device)
        rows = buffer[: crops.numel()].view(shape)
        rows.copy_(crops.reshape(shape))
        mean, std = self.mean.view(1, 1, 3), self.std.view(1, 1, 3)
        scale, offset = 1 / (255 * std), -mean / std
        if lights is not None:
            factor, summand = lights.to(self.mean.device).view(-1, 2, 1, 1).unbind(1)
            scale, offset = factor * scale, summand * scale + offset
        scale, offset = (each.repeat(1, 1, crops.shape[2]) for each in (scale, offset))
        images = torch.addcmul(offset, rows, scale, out=rows).view(crops.shape)
        # The permuted view of NHWC values is channels_last already.
        return images.permute(0, 3, 1, 2).contiguous(memory_format=self.layout)

    def set_channels_last(self, on: bool) -> None:
        """Set the memory layout of weights and images: channels_last or contiguous."""
        self.layout = torch.channels_last if on else torch.contiguous_format
        self.to(memory_format=self.layout)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return {task: (N, outputs)} of (N, 3, H, W) normalised float images.

        The meaning of the outputs depends on the head; `probs` turns them into probabilities.
        """
        features = self.dropout(self.backbone(images))
        return {task: head(features) for task, head in zip(self.tasks, self.heads, strict=True)}

    def probs(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return {task: (N, classes) float32 probabilities of the schema's classes}."""
        return {task: self.head(task).probs(output) for task, output in outputs.items()}

    def head(self, task: str) -> Head:
        """Return the head of a task."""
        head = self.heads[self.tasks.index(task)]
        assert isinstance(head, Head)
        return head


def build_classifier(
    backbone: str,
    heads: Mapping[str, HeadSpec | int],
    *,
    image_size: int,
    pretrained: bool = False,
    drop_rate: float = 0.0,
    drop_path_rate: float | None = None,
    kwargs: Mapping[str, Any] | None = None,
    second: Mapping[str, Any] | None = None,
    hidden: int = 0,
    batch_norm: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Classifier:
    """Build a classifier, and try its backbone once on a black image.

    Args:
        backbone: any name timm knows, with or without a weights tag, or inception_resnet_v1.
        heads: task -> spec of its head, or a number of classes, in the order of the tasks.
        image_size: side of the square input in pixels.
        pretrained: load published weights (hub cache first, then the network).
        drop_rate, hidden, batch_norm: as for `Head`; `drop_rate` also before the heads.
        drop_path_rate: stochastic depth; None is the backbone's default.
        kwargs: more arguments for the backbone, e.g. `{"embed_dim": 48, "depths": [2, 2]}`.
        second: `backbone` and `kwargs` of a second backbone; None = one backbone.
        mean, std: None takes those of the published backbone.

    Raises:
        TrainError: an unknown name, a size or argument that the backbone refuses, or weights that
            cannot be fetched.
    """

    def build(name: str, options: Mapping[str, Any] | None) -> tuple[nn.Module, int]:
        body = build_backbone(
            name,
            image_size=image_size,
            pretrained=pretrained,
            drop_path_rate=drop_path_rate,
            kwargs=options,
        )
        return body, count_features(body, name, image_size)

    body, features = build(backbone, kwargs)
    if second is not None:
        other, more = build(second["backbone"], second.get("kwargs"))
        body, features = TwoBackbones(body, other), features + more
    published = published_config(body)
    specs = {t: HeadSpec.plain(s) if isinstance(s, int) else s for t, s in heads.items()}
    return Classifier(
        body,
        specs,
        features=features,
        image_size=image_size,
        mean=tuple(published["mean"] if mean is None else mean),
        std=tuple(published["std"] if std is None else std),
        drop_rate=drop_rate,
        hidden=hidden,
        batch_norm=batch_norm,
    )
