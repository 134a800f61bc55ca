"""Every setting of training, with its default and unit. Knows nothing of how it is used."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cropfirst.configs import Config

TRACKERS = ("tensorboard", "csv", "wandb", "mlflow", "trackio")
"""What --tracker knows."""


class ModelConfig(Config):
    """The network."""

    backbone: str = "convnext_tiny"
    """Any timm model, with or without a weights tag: convnext_tiny, swin_s3_tiny_224."""
    pretrained: bool = True
    """Start from timm's published weights; not looked at when `weights` is given."""
    weights: str | None = None
    """A safetensors file to start the backbone from (timm's keys, or a cropfirst checkpoint)."""
    drop_rate: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in front of the heads; 0 = off."""
    drop_path_rate: float | None = Field(default=None, ge=0, lt=1)
    """Stochastic depth; null = the backbone's own default."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """More arguments of the backbone, e.g. {embed_dim: 48, depths: [2, 2], num_heads: [2, 4]}."""


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
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """0 = off."""
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
    model: ModelConfig = ModelConfig()
    """The network."""
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
    trackers: str = "tensorboard,csv"
    """Who gets each epoch's numbers: tensorboard, wandb, mlflow, trackio; history.csv always."""
    project: str = Field(default="cropfirst", min_length=1)
    """What wandb, mlflow and trackio file the runs under."""

    @field_validator("task")
    @classmethod
    def _split_tasks(cls, value: str) -> str:
        tasks = [part.strip() for part in value.split(",")]
        if not all(tasks) or len(set(tasks)) != len(tasks):
            raise ValueError("--task wants one name, or different names with commas: mask,gender")
        return ",".join(tasks)

    @field_validator("trackers")
    @classmethod
    def _known_trackers(cls, value: str) -> str:
        names = [part.strip() for part in value.split(",")]
        if wrong := [name for name in names if name not in TRACKERS]:
            raise ValueError(
                f"--tracker wants names with commas of {', '.join(TRACKERS)}, got {wrong[0]!r}"
            )
        return ",".join(dict.fromkeys(names))

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

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names, in the order of the heads."""
        return tuple(self.task.split(","))

    @property
    def tracker_names(self) -> tuple[str, ...]:
        """Who gets each epoch's numbers, in the order named."""
        return tuple(self.trackers.split(","))

    @property
    def run_name(self) -> str:
        """The run's folder below the runs directory."""
        return self.name or f"{'+'.join(self.tasks)}-{self.model.backbone}"
