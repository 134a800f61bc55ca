"""Every setting of training, with its default and unit. Knows nothing of how it is used."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cropfirst.configs import Config

Kind = Literal["classes", "coral", "corn", "regression"]
Term = Literal["ce", "focal", "f1"]


class SecondConfig(Config):
    """A second backbone."""

    backbone: str
    """As model.backbone."""
    weights: str | None = None
    """As model.weights."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """As model.kwargs."""


class ModelConfig(Config):
    """The network."""

    backbone: str = "convnext_tiny"
    """Any timm model, with or without a weights tag: convnext_tiny, swin_s3_tiny_224."""
    pretrained: bool = True
    """Start from timm's published weights; not looked at when `weights` is given."""
    weights: str | None = None
    """A safetensors file to start the backbone from (timm's keys, or a cropfirst checkpoint)."""
    second: SecondConfig | None = None
    """Another backbone beside it; the heads see the features of both. null = one backbone."""
    drop_rate: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in front of the heads, and of the last layer of two-layer heads; 0 = off."""
    drop_path_rate: float | None = Field(default=None, ge=0, lt=1)
    """Stochastic depth; null = the backbone's own default."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """More arguments of the backbone, e.g. {embed_dim: 48, depths: [2, 2], num_heads: [2, 4]}."""

    @property
    def title(self) -> str:
        """The backbone's name, or both names."""
        return self.backbone if self.second is None else f"{self.backbone}+{self.second.backbone}"


class TaskHead(Config):
    """How one task is learned. All kinds give probabilities of the schema's classes."""

    kind: Kind = "classes"
    """classes = one logit a class; coral and corn = ordinal; regression = the number itself.
    The last three want a task with an order: one with bins, or `ordered: true` in its schema."""
    bins: list[float] | None = None
    """Learn these finer bins (inner edges, those of the schema among them) and sum them up to the
    schema's classes; null = the schema's own. Not for regression."""
    mse: float = Field(default=0.0, ge=0)
    """Weight of a squared error on the number, learned by one more output and measured in standard
    deviations; 0 = off. For kind classes."""
    spread: float = Field(default=5.0, gt=0)
    """Standard deviation assumed around a predicted number, in its unit (years), where it becomes
    probabilities. For kind regression."""


class HeadConfig(Config):
    """What stands between the backbone's features and the answers, one a task."""

    hidden: int = Field(default=0, ge=0)
    """Units of a hidden layer (a two-layer, "shallow" head); 0 = linear."""
    batch_norm: bool = False
    """Batch norm: on the features of a linear head, else on the hidden layer."""
    tasks: dict[str, TaskHead] = Field(default_factory=dict)
    """Tasks that are learned in another way than by their classes: {age: {kind: corn}}."""


class LossConfig(Config):
    """What is minimised: of several tasks, the sum."""

    terms: dict[Term, float] = Field(default={"ce": 1.0})
    """Weighted sum, e.g. {f1: 0.4, focal: 0.6}. ce = cross entropy (of other kinds of head, their
    own loss); focal = focal loss; f1 = 1 - macro F1 of the batch, softly counted."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Mass spread over all classes, in ce and focal of kind classes; 0 = off."""
    focal_gamma: float = Field(default=2.0, ge=0)
    """How much less focal loss weighs what is easy; 0 = cross entropy."""
    class_weights: Literal["none", "inverse", "effective"] = "none"
    """Weights by class, in ce and focal: by inverse frequency, or by effective number."""
    effective_beta: float = Field(default=0.999, ge=0, lt=1)
    """Of class_weights effective: 0 = no weights, towards 1 = inverse frequency."""

    @field_validator("terms")
    @classmethod
    def _some_term(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or not all(0 < weight < math.inf for weight in value.values()):
            raise ValueError("loss.terms wants weights above 0, such as {ce: 1} or {f1: 1, ce: 1}")
        return value


class LabelRules(Config):
    """What training alone is told; validation and evaluation always see the true labels."""

    shift: dict[str, dict[float, float]] = Field(default_factory=dict)
    """Task -> {edge: moved to}, e.g. {age: {60: 58}}: 58 and 59 are learned as 60."""
    drop: dict[str, list[str | float]] = Field(default_factory=dict)
    """Task -> classes, numbers or ranges not to train on, e.g. {age: [27-29, 57-59]}."""


class DataConfig(Config):
    """How crops reach the network."""

    image_size: int | None = Field(default=None, ge=16)
    """Side of the network's input in pixels; null = the crops' own."""
    augment: Literal["basic", "none"] = "basic"
    """basic = mirror, small shift, zoom and turn, light and contrast."""
    batch_size: int = Field(default=64, ge=1)
    """Crops in one step."""
    workers: int | None = Field(default=None, ge=0)
    """Loader processes; null = 0 on the CPU and for small sets, else up to 8. Changes no result."""
    preload: bool | None = None
    """Hold all crops in memory; null = when they fit in 2 GiB. Changes no result."""


class OptimConfig(Config):
    """AdamW, cosine with warmup."""

    epochs: int = Field(default=10, ge=1)
    """Times through the training part."""
    lr: float = Field(default=3e-4, gt=0)
    """Highest learning rate, reached after the warmup."""
    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's; not applied to biases and norms."""
    warmup_epochs: float = Field(default=1.0, ge=0)
    """Linear warmup from 0, in epochs; 0 = off."""
    clip_grad: float = Field(default=1.0, ge=0)
    """Largest gradient norm; 0 = off."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Mixed precision; auto = bf16 on a GPU that has it, else off."""
    channels_last: bool = True
    """Memory layout that convolutions like best; changes rounding at most."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> OptimConfig:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0 and self.epochs > 1:
            raise ValueError(
                f"optim.warmup_epochs must be less than optim.epochs, got {self.warmup_epochs:g} "
                f"and {self.epochs}"
            )
        return self


class FoldsConfig(Config):
    """Cross-validation by person."""

    n_folds: int = Field(default=5, ge=2)
    """Parts (--folds); each is validated once by a model trained on the others."""
    fold: int | None = Field(default=None, ge=0)
    """Train this one alone (--fold), counted from 0; null = all."""
    seed: int = 0
    """Of the split alone, so that runs with other seeds stay comparable."""

    @model_validator(mode="after")
    def _fold_exists(self) -> FoldsConfig:
        if self.fold is not None and self.fold >= self.n_folds:
            raise ValueError(
                f"--fold counts from 0 and must be below --folds, got {self.fold} of {self.n_folds}"
            )
        return self


class TrainConfig(Config):
    """One run: every fold of one task, or of several tasks on one backbone."""

    task: str
    """A task, several with commas (one backbone, a head each), or the combined code's name."""
    name: str | None = None
    """The run's folder; null = TASK-BACKBONE."""
    init_from: str | None = None
    """A run to go on from (--init-from) when photos or labels came, by its name or path: its people
    stay in their folds, and each fold starts from that fold's best checkpoint."""
    where: dict[str, str] = Field(default_factory=dict)
    """Train on a part alone, e.g. {gender: male}: a model of men. When runs vote, its say on a
    photo goes by how probable the others find that condition."""
    routing: Literal["soft", "hard"] = "soft"
    """Of a run with `where`: soft = weighed by the condition's probability; hard = asked only where
    the condition is what the others predict."""
    model: ModelConfig = ModelConfig()
    """The network."""
    head: HeadConfig = HeadConfig()
    """From features to answers."""
    loss: LossConfig = LossConfig()
    """What is minimised."""
    labels: LabelRules = LabelRules()
    """What training alone is told."""
    data: DataConfig = DataConfig()
    """How crops reach the network."""
    optim: OptimConfig = OptimConfig()
    """Optimisation."""
    folds: FoldsConfig = FoldsConfig()
    """Cross-validation."""
    device: str = "auto"
    """auto = the GPU when there is one; cuda or cuda:1 is an error when there is none."""
    seed: int = Field(default=0, ge=0)
    """Of initial weights, order of crops, augmentation and dropout."""

    @field_validator("task")
    @classmethod
    def _split_tasks(cls, value: str) -> str:
        tasks = [part.strip() for part in value.split(",")]
        if not all(tasks) or len(set(tasks)) != len(tasks):
            raise ValueError("--task wants one name, or different names with commas: mask,gender")
        return ",".join(tasks)

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError("--device wants auto, cpu, cuda or cuda:N")
        return value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and (not value or re.search(r"[/\\\0]", value) or value[0] == "."):
            raise ValueError("--name wants a plain folder name")
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> TrainConfig:
        for task, head in self.head.tasks.items():
            where = f"head.tasks.{task}"
            if task not in self.tasks:
                raise ValueError(f"{where}: --task is {self.task}, which has no {task!r}")
            if head.kind != "classes" and "focal" in self.loss.terms:
                raise ValueError(
                    f"{where}.kind={head.kind} has no focal loss: take ce or f1 in loss.terms"
                )
            if head.kind == "regression" and head.bins is not None:
                raise ValueError(f"{where}: kind regression predicts the number: leave bins out")
            if head.kind != "classes" and head.mse:
                raise ValueError(f"{where}.mse goes with kind classes, not with {head.kind}")
        both = set(self.where) & set(self.tasks)
        if both:
            raise ValueError(
                f"where: {min(both)!r} is what is trained (--task), it cannot be the condition too"
            )
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names, in the order of the heads."""
        return tuple(self.task.split(","))

    @property
    def run_name(self) -> str:
        """The run's folder below the runs directory."""
        only = "".join(f"-{task}={name}" for task, name in self.where.items())
        plain = re.sub(r"[/\\\0]", "_", only)
        return self.name or f"{'+'.join(self.tasks)}{plain}-{self.model.title}"
