"""All settings of training, with defaults and units. Knows nothing of how they are used."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cropfirst.configs import Config

Kind = Literal["classes", "coral", "corn", "regression"]
Term = Literal["ce", "focal", "f1"]
TRACKERS = ("tensorboard", "csv", "wandb", "mlflow", "trackio")
"""Values of --tracker."""
SHIPPED = {"faces": "tf_efficientnet_lite0"}
"""Weights in stage2_classify/weights/, by the name that --weights takes -> their backbone."""


class SecondConfig(Config):
    """Settings of a second backbone."""

    backbone: str
    """Name, as for model.backbone."""
    weights: str | None = None
    """Weights file, as for model.weights."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """More arguments, as for model.kwargs."""


class ModelConfig(Config):
    """Settings of the network."""

    backbone: str = "convnext_tiny"
    """Any timm model, with or without a weights tag, e.g. swin_s3_tiny_224."""
    pretrained: bool = True
    """Start from timm's published weights, or from scratch; not beside `weights`."""
    weights: str | None = None
    """Weights to start the backbone from: `faces` (see docs/recipes.md), or a safetensors file
    (timm's keys, or a cropfirst checkpoint). `faces` also sets the backbone, if none is named."""
    second: SecondConfig | None = None
    """Second backbone, whose features are concatenated; null = one backbone."""
    drop_rate: float = Field(default=0.0, ge=0, lt=1)
    """Dropout rate before the heads, and before the last layer of two-layer heads; 0 = off."""
    drop_path_rate: float | None = Field(default=None, ge=0, lt=1)
    """Rate of stochastic depth; null = the backbone's default."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """More arguments of the backbone, e.g. {embed_dim: 48, depths: [2, 2], num_heads: [2, 4]}."""

    @model_validator(mode="before")
    @classmethod
    def _backbone_of_weights(cls, data: Any) -> Any:
        if isinstance(data, dict) and "backbone" not in data and data.get("weights") in SHIPPED:
            return {**data, "backbone": SHIPPED[data["weights"]]}
        return data

    @property
    def title(self) -> str:
        """The name of the backbone, or the names of both."""
        return self.backbone if self.second is None else f"{self.backbone}+{self.second.backbone}"


class TaskHead(Config):
    """Settings of one task's head. All kinds give probabilities of the schema's classes."""

    kind: Kind = "classes"
    """Kind of head: classes = one logit per class; coral and corn = ordinal; regression = the
    number. The last three need a task with an order: one with bins, or `ordered: true` in its
    schema."""
    bins: list[float] | None = None
    """Inner edges of finer bins to learn, which include those of the schema, and whose
    probabilities are summed to its classes; null = the schema's bins. Not for regression."""
    mse: float = Field(default=0.0, ge=0)
    """Weight of a squared error on the number, which one more output learns, in standard
    deviations; 0 = off. For kind classes."""
    spread: float = Field(default=5.0, gt=0)
    """Standard deviation assumed around a predicted number, in its unit (years), to turn it into
    probabilities. For kind regression."""


class HeadConfig(Config):
    """Settings of the heads between the backbone's features and the tasks."""

    hidden: int = Field(default=0, ge=0)
    """Number of units of a hidden layer (two-layer heads); 0 = linear heads."""
    batch_norm: bool = False
    """Use batch norm: on the features of a linear head, else on the hidden layer."""
    tasks: dict[str, TaskHead] = Field(default_factory=dict)
    """Settings of tasks that are not learned by their classes, e.g. {age: {kind: corn}}."""


class LossConfig(Config):
    """Settings of the loss; that of several tasks is the sum."""

    terms: dict[Term, float] = Field(default={"ce": 1.0})
    """Weights of the terms, e.g. {f1: 0.4, focal: 0.6}. ce = cross entropy (or the loss of another
    kind of head); focal = focal loss; f1 = 1 - soft macro F1 of the batch."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target spread over all classes, in ce and focal of kind classes; 0 = off."""
    focal_gamma: float = Field(default=2.0, ge=0)
    """Exponent by which focal loss reduces the weight of easy photos; 0 = cross entropy."""
    class_weights: Literal["none", "inverse", "effective"] = "none"
    """Class weights in ce and focal: by inverse frequency, or by effective number."""
    effective_beta: float = Field(default=0.999, ge=0, lt=1)
    """Parameter of class_weights effective: 0 = no weights, towards 1 = inverse frequency."""

    @field_validator("terms")
    @classmethod
    def _some_term(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or not all(0 < weight < math.inf for weight in value.values()):
            raise ValueError(
                "loss.terms expects weights above 0, such as {ce: 1} or {f1: 1, ce: 1}"
            )
        return value


class LabelRules(Config):
    """Changes of labels for training; validation and evaluation always use the true labels."""

    shift: dict[str, dict[float, float]] = Field(default_factory=dict)
    """Moved edges by task, e.g. {age: {60: 58}}: 58 and 59 are learned as 60."""
    drop: dict[str, list[str | float]] = Field(default_factory=dict)
    """Classes, numbers or ranges to leave out of training by task, e.g. {age: [27-29, 57-59]}."""


Augmentation = Literal["none", "basic", "randaugment", "strong"]


class MixConfig(Config):
    """Settings of mixing two crops and their labels."""

    kind: Literal["none", "mixup", "cutmix", "half_cutmix"] = "none"
    """Kind of mixing: mixup blends; cutmix pastes a rectangle; half_cutmix joins two halves along a
    vertical line."""
    prob: float = Field(default=0.5, ge=0, le=1)
    """Probability that a batch is mixed."""
    alpha: float = Field(default=1.0, gt=0)
    """Parameter of the Beta distribution of the crops' shares; not for half_cutmix."""
    ratio: float | None = Field(default=None, gt=0, lt=1)
    """Fixed share of the first crop in place of `alpha`, e.g. 0.5; not for half_cutmix."""
    half: tuple[float, float] = (0.46, 0.54)
    """Range of the line's position for half_cutmix, from the left, as shares of the width."""
    rare: str | None = None
    """Task, such as age, from whose rarest class the second crop always comes; null = any crop."""

    @model_validator(mode="after")
    def _line_is_inside(self) -> MixConfig:
        low, high = self.half
        if not 0 < low <= high < 1:
            raise ValueError(f"data.mix.half expects 0 < low <= high < 1, got {low:g} and {high:g}")
        return self


class DataConfig(Config):
    """Settings of sampling, augmentation and loading."""

    image_size: int | None = Field(default=None, ge=16)
    """Side of the network's input in pixels; null = that of the crops."""
    augment: Augmentation = "basic"
    """Augmentation: basic = mirror, small shift, zoom and turn, light and contrast; randaugment =
    `ops` random changes of one strength; strong = basic, colours, noise, blur and more."""
    ops: int = Field(default=2, ge=1)
    """Number of changes per crop, for randaugment."""
    magnitude: float = Field(default=9, ge=0, le=30)
    """Strength of the changes, 0 to 30, for randaugment."""
    transforms: tuple[dict[str, Any], ...] = ()
    """More transforms of albumentations after `augment`, e.g. [{name: CLAHE, p: 0.3}]."""
    augment_classes: dict[str, Augmentation] = Field(default_factory=dict)
    """Augmentation of some classes, if different, e.g. {"age:>=60": strong}."""
    erase: float = Field(default=0.0, ge=0, le=1)
    """Probability of RandomErasing: a rectangle of 2 to 33 % of the crop's area."""
    mix: MixConfig = MixConfig()
    """Settings of MixUp and CutMix."""
    swap_rooms: float = Field(default=0.0, ge=0, le=1)
    """Probability that a training crop shows the head in the room of another person, of a random
    class (Mixed-Rand training); 0 = off. Needs `detect --swap-rooms` with `swap.draws` of 2 or
    more."""
    swap_draws: int | None = Field(default=None, ge=1)
    """Number of draws of swapped crops to train on, for `swap_rooms`; null = all but the one that
    models are scored on."""
    augment_on: Literal["auto", "cpu", "device"] = "auto"
    """Device that augments for none and basic; auto = the network's. Others use the CPU."""
    sampler: Literal["shuffle", "weighted", "oversample"] = "shuffle"
    """Sampler: weighted = photos drawn so that classes are equally frequent; oversample = every
    photo, with rare classes repeated until they are as large as the largest."""
    balance: tuple[str, ...] = ()
    """Tasks whose combinations of classes the sampler balances, e.g. [gender, age]; [] = the
    trained tasks."""
    balance_power: float = Field(default=1.0, gt=0, le=1)
    """Strength of balancing for weighted: 1 = equally frequent classes, 0.5 = by their root."""
    max_repeats: int = Field(default=10, ge=1)
    """Largest number of copies of one photo in an epoch, for oversample."""
    batch_size: int | None = Field(default=None, ge=1)
    """Number of crops in one batch; null = 64, or on small data as many as make 8 steps per epoch,
    but at least 4."""
    workers: int | None = Field(default=None, ge=0)
    """Number of loader processes; null = 0 on the CPU and for small sets, else up to 8. Changes no
    result."""
    preload: Literal["auto", "none", "ram", "device"] = "auto"
    """Memory in which all crops are kept; auto = that of the GPU if they take less than half of
    what is free there, else ram if they fit in 2 GiB. Changes no result."""


class OptimConfig(Config):
    """Settings of the optimizer and the training loop."""

    optimizer: Literal["adamw", "adam", "adamax", "sgd", "madgrad"] = "adamw"
    """Optimizer of timm; sgd has Nesterov momentum."""
    epochs: int = Field(default=10, ge=1)
    """Number of epochs, passes through the training part of a fold."""
    lr: float = Field(default=3e-4, gt=0)
    """Learning rate at the end of the warmup, the highest."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay, not applied to biases and norms; decoupled for adamw only."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of sgd and madgrad."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Factor of the learning rate from each layer to the one below, e.g. 0.75; null = off."""
    schedule: Literal["cosine", "step", "plateau", "constant"] = "cosine"
    """Schedule of the learning rate after the warmup."""
    warmup_epochs: float = Field(default=1.0, ge=0)
    """Length of the linear warmup from 0, in epochs; 0 = off."""
    min_lr: float = Field(default=0.0, ge=0)
    """Lowest learning rate, for cosine and plateau."""
    decay_epochs: float = Field(default=3.0, gt=0)
    """Number of epochs between two decays, for step."""
    decay_rate: float = Field(default=0.5, gt=0, lt=1)
    """Factor of one decay, for step and plateau."""
    patience: int = Field(default=2, ge=0)
    """Number of epochs without a better `monitor` before a decay, for plateau."""
    clip_grad: float = Field(default=1.0, ge=0)
    """Largest norm of the gradients; 0 = off."""
    accumulate: int = Field(default=1, ge=1)
    """Number of batches whose gradients make one step, as if `data.batch_size` were so much
    larger."""
    freeze_epochs: int = Field(default=0, ge=0)
    """Number of first epochs in which the backbone is frozen, so that only the heads learn; 0 =
    off."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay per step of the running mean of the weights, which is then validated and saved, e.g.
    0.999; 0 = off."""
    monitor: Literal["f1", "accuracy", "loss"] = "f1"
    """Score of the validation part that early stopping and plateau use."""
    early_stop: int = Field(default=0, ge=0)
    """Number of epochs without a better `monitor` after which a fold stops; 0 = off."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Mixed precision; auto = bf16 on a GPU that supports it, else off."""
    channels_last: bool = True
    """Use the memory layout that is fastest for convolutions; changes rounding at most."""
    compile: bool = False
    """Compile the network with torch.compile: a minute at the start, and faster steps."""

    @field_validator("amp", mode="before")
    @classmethod
    def _plain_off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML reads `off` as false

    @model_validator(mode="after")
    def _epochs_fit(self) -> OptimConfig:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0 and self.epochs > 1:
            raise ValueError(
                f"optim.warmup_epochs must be less than optim.epochs, got {self.warmup_epochs:g} "
                f"and {self.epochs}"
            )
        if self.freeze_epochs >= self.epochs:
            raise ValueError(
                f"optim.freeze_epochs must be less than optim.epochs, got {self.freeze_epochs} "
                f"and {self.epochs}"
            )
        return self


class FoldsConfig(Config):
    """Settings of cross-validation by person."""

    n_folds: int = Field(default=5, ge=2)
    """Number of person-disjoint folds; each is validated once by a model trained on the others."""
    fold: int | None = Field(default=None, ge=0)
    """Only fold to train, counted from 0; null = all."""
    seed: int = 0
    """Seed of the split only, so that runs with other seeds stay comparable."""
    all_data: bool = False
    """After the folds, train once more on all photos, for the epochs that the folds chose."""

    @model_validator(mode="after")
    def _fold_exists(self) -> FoldsConfig:
        if self.fold is not None and self.fold >= self.n_folds:
            raise ValueError(
                f"--fold counts from 0 and must be below --folds, got {self.fold} of {self.n_folds}"
            )
        return self


class TrainConfig(Config):
    """Settings of one run: every fold of one task, or of several tasks on one backbone."""

    task: str
    """Task of the label schema; several with commas (one backbone, a head for each), e.g.
    mask,gender,age; or its combined code, e.g. class18."""
    name: str | None = None
    """Name of the run and of its folder; null = TASK-BACKBONE, and -CROPS if not ellipse."""
    init_from: str | None = None
    """Run to continue from when photos or labels were added, by its name or path: its people stay
    in their folds, and each fold starts from that fold's best checkpoint."""
    where: dict[str, str] = Field(default_factory=dict)
    """Condition on the photos to train on, e.g. {gender: male}: a model of men. In a vote, the
    model is weighted by the probability that other runs give the condition."""
    routing: Literal["soft", "hard"] = "soft"
    """Vote of a run with `where`: soft = weighted by the condition's probability; hard = only where
    other runs predict the condition."""
    model: ModelConfig = ModelConfig()
    """Settings of the network."""
    head: HeadConfig = HeadConfig()
    """Settings of the heads."""
    loss: LossConfig = LossConfig()
    """Settings of the loss."""
    labels: LabelRules = LabelRules()
    """Changes of labels for training."""
    data: DataConfig = DataConfig()
    """Settings of sampling, augmentation and loading."""
    optim: OptimConfig = OptimConfig()
    """Settings of the optimizer and the training loop."""
    folds: FoldsConfig = FoldsConfig()
    """Settings of cross-validation."""
    choose_by: Literal["auto", "oof", "swapped"] = "auto"
    """Score that chooses the best epoch and stops early: oof = of the out-of-fold predictions;
    swapped = of the same photos with their heads in the rooms of other people; auto = swapped where
    `detect --swap-rooms` has made such crops."""
    device: str = "auto"
    """Device of the network: auto (CUDA where there is one), cpu, cuda or cuda:N. A GPU that is
    named and absent is an error."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, order of crops, augmentation and dropout."""
    trackers: str = "tensorboard,csv"
    """Trackers to log each epoch to, separated by commas: tensorboard, csv, wandb, mlflow, trackio.
    history.csv is always written."""
    project: str = Field(default="cropfirst", min_length=1)
    """Project name for wandb, mlflow and trackio."""

    @field_validator("task")
    @classmethod
    def _split_tasks(cls, value: str) -> str:
        tasks = [part.strip() for part in value.split(",")]
        if not all(tasks) or len(set(tasks)) != len(tasks):
            raise ValueError("--task expects one name, or different names with commas: mask,gender")
        return ",".join(tasks)

    @field_validator("trackers")
    @classmethod
    def _known_trackers(cls, value: str) -> str:
        names = [part.strip() for part in value.split(",")]
        if wrong := [name for name in names if name not in TRACKERS]:
            raise ValueError(
                f"--tracker expects names with commas of {', '.join(TRACKERS)}, got {wrong[0]!r}"
            )
        return ",".join(dict.fromkeys(names))

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError("--device expects auto, cpu, cuda or cuda:N")
        return value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and (not value or re.search(r"[/\\\0]", value) or value[0] == "."):
            raise ValueError("--name expects a plain folder name")
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
        """Names of the tasks, in the order of the heads."""
        return tuple(self.task.split(","))

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks, and of those in the condition on the photos."""
        return (*self.tasks, *self.where)

    @property
    def tracker_names(self) -> tuple[str, ...]:
        """Names of the trackers, in the order given."""
        return tuple(self.trackers.split(","))

    @property
    def run_name(self) -> str:
        """Name of the run's folder in the runs folder."""
        only = "".join(f"-{task}={name}" for task, name in self.where.items())
        plain = re.sub(r"[/\\\0]", "_", only)
        return self.name or f"{'+'.join(self.tasks)}{plain}-{self.model.title}"
