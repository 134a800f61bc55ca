"""Checkpoints of one run as one ONNX classifier: normalised crops in, log-probabilities out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cropfirst.core.onnx_export import to_onnx
from cropfirst.stage2_classify.labels.schema import LabelSchema
from cropfirst.stage2_classify.model.models import Classifier

LEAST = 1e-12
"""Least probability of which the logarithm is taken."""


class _Vote(nn.Module):
    """The mean of some classifiers' probabilities."""

    def __init__(
        self, members: Sequence[Classifier], tasks: Sequence[str], schema: LabelSchema
    ) -> None:
        super().__init__()
        self.members, self.tasks = nn.ModuleList(members), tuple(tasks)
        self.code = schema.combined.name if schema.combined else ""
        for at, task in enumerate(self.tasks):
            self.register_buffer(f"part{at}", _part_of_code(task, schema), persistent=False)

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Return (N, classes) log-probabilities of each task, of (N, 3, S, S) normalised crops."""
        own = [member.probs(member(crops)) for member in self.members]  # type: ignore[operator]
        logs = []
        for at, task in enumerate(self.tasks):
            part = getattr(self, f"part{at}")
            tables = [each[task] if task in each else each[self.code] @ part for each in own]
            logs.append(torch.stack(tables).mean(0).clamp_min(LEAST).log())
        return tuple(logs)


def _part_of_code(task: str, schema: LabelSchema) -> Tensor:
    """Return (codes, classes) of 0 and 1, by which joint probabilities become a task's."""
    if schema.combined is None or task not in schema.combined.tasks:
        return torch.zeros(0, 0)
    part = torch.zeros(schema.num_classes(schema.combined.name), schema.num_classes(task))
    for code in range(len(part)):
        part[code, schema.split_code(code)[task]] = 1.0
    return part


def classifier_file(
    members: Sequence[Classifier], tasks: Sequence[str], schema: LabelSchema
) -> bytes:
    """Return the ONNX file of some checkpoints' vote, with an output for each task.

    A checkpoint that predicts the combined code votes on each task by its marginals.

    Args:
        members: classifiers of one image size, mean and std, in eval mode on the CPU.
        tasks: tasks that all of them predict.

    Raises:
        BundleError: the network cannot be written as ONNX.
    """
    size = members[0].image_size
    for member in members:
        member.set_channels_last(False)
    return to_onnx(
        _Vote(members, tasks, schema).eval(), (3, size, size),
        input_name="crops", output_names=tasks, free={},
    )  # fmt: skip
