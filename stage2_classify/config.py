"""Every setting of training, with its default and unit. Knows nothing of how it is used."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cropfirst.configs import Config

Kind = Literal["classes", "coral", "corn", "regression"]
Term = Literal["ce", "focal", "f1"]
TRACKERS = ("tensorboard", "csv", "wandb", "mlflow", "trackio")
"""What --tracker knows."""


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
    """Any timm model, with or without a weights tag, e.g. swin_s3_tiny_224."""
    pretrained: bool = True
    """Start from timm's published weights, or from scratch; ignored when `weights` is given."""
    weights: str | None = None
    """Safetensors file to start the backbone from (timm's keys, or a cropfirst checkpoint)."""
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


Augmentation = Literal["none", "basic", "randaugment", "strong"]


class MixConfig(Config):
    """Two crops, and their labels, in one."""

    kind: Literal["none", "mixup", "cutmix", "half_cutmix"] = "none"
    """mixup blends; cutmix sets in a rectangle; mixup_cutmix takes turns; half_cutmix joins two
    halves along an upright line."""
    prob: float = Field(default=0.5, ge=0, le=1)
    """Share of the batches that are mixed."""
    alpha: float = Field(default=1.0, gt=0)
    """Of the Beta distribution that the share of each crop comes from; not for half_cutmix."""
    ratio: float | None = Field(default=None, gt=0, lt=1)
    """A fixed share of the first crop in place of `alpha`, e.g. 0.5; not for half_cutmix."""
    half: tuple[float, float] = (0.46, 0.54)
    """half_cutmix: where the line lies, from the left, as shares of the width."""
    rare: str | None = None
    """A task, such as age: the second crop is always of that task's rarest class; null = any."""

    @model_validator(mode="after")
    def _line_is_inside(self) -> MixConfig:
        low, high = self.half
        if not 0 < low <= high < 1:
            raise ValueError(f"data.mix.half wants 0 < low <= high < 1, got {low:g} and {high:g}")
        return self


class DataConfig(Config):
    """How crops reach the network."""

    image_size: int | None = Field(default=None, ge=16)
    """Side of the network's input in pixels; null = the crops' own."""
    augment: Augmentation = "basic"
    """basic = mirror, small shift, zoom and turn, light and contrast; randaugment = `ops` random
    changes of one strength; strong = basic, colours, noise, blur and more."""
    ops: int = Field(default=2, ge=1)
    """randaugment: changes a crop."""
    magnitude: float = Field(default=9, ge=0, le=30)
    """randaugment: their strength; 30 is the most."""
    transforms: tuple[dict[str, Any], ...] = ()
    """More transforms of albumentations, by name, after `augment`: [{name: CLAHE, p: 0.3}]."""
    augment_classes: dict[str, Augmentation] = Field(default_factory=dict)
    """Other augmentation for some classes: {"age:>=60": strong}."""
    erase: float = Field(default=0.0, ge=0, le=1)
    """RandomErasing: share of the crops that lose a rectangle of 2 to 33 % of their area."""
    mix: MixConfig = MixConfig()
    """MixUp and CutMix."""
    augment_on: Literal["auto", "cpu", "device"] = "auto"
    """Where none and basic are computed; auto = where the network is. The others: CPU."""
    sampler: Literal["shuffle", "weighted", "oversample"] = "shuffle"
    """weighted = photos drawn so that classes come equally often; oversample = every photo, rare
    classes repeated until they are as many as the largest."""
    balance: tuple[str, ...] = ()
    """Tasks whose classes, taken together, the sampler balances: [gender, age]; [] = the trained
    ones."""
    balance_power: float = Field(default=1.0, gt=0, le=1)
    """weighted: 1 = classes come equally often, 0.5 = by the root of their size."""
    max_repeats: int = Field(default=10, ge=1)
    """oversample: most copies of one photo in an epoch."""
    batch_size: int | None = Field(default=None, ge=1)
    """Crops in one step; null = 64, or all there are where they are fewer."""
    workers: int | None = Field(default=None, ge=0)
    """Loader processes; null = 0 on the CPU and for small sets, else up to 8. Changes no result."""
    preload: Literal["auto", "none", "ram", "device"] = "auto"
    """Memory that holds all crops; auto = the GPU's when they take less than half of what is free
    there, else ram when they fit in 2 GiB. Changes no result."""


class OptimConfig(Config):
    """Optimizer, learning rate, and what goes on around a step."""

    optimizer: Literal["adamw", "adam", "adamax", "sgd", "madgrad"] = "adamw"
    """timm's; sgd is Nesterov's."""
    epochs: int = Field(default=10, ge=1)
    """Number of epochs, passes through the training part of a fold."""
    lr: float = Field(default=3e-4, gt=0)
    """Highest learning rate, reached after the warmup."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Not applied to biases and norms; decoupled for adamw, in the gradient for the others."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """sgd and madgrad."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Each layer learns this many times slower than the next one up, e.g. 0.75; null = off."""
    schedule: Literal["cosine", "step", "plateau", "constant"] = "cosine"
    """How the learning rate falls after the warmup."""
    warmup_epochs: float = Field(default=1.0, ge=0)
    """Linear warmup from 0, in epochs; 0 = off."""
    min_lr: float = Field(default=0.0, ge=0)
    """Where cosine and plateau end."""
    decay_epochs: float = Field(default=3.0, gt=0)
    """step: epochs between two falls."""
    decay_rate: float = Field(default=0.5, gt=0, lt=1)
    """step and plateau: what a fall multiplies by."""
    patience: int = Field(default=2, ge=0)
    """plateau: epochs without a better `monitor` before a fall."""
    clip_grad: float = Field(default=1.0, ge=0)
    """Largest gradient norm; 0 = off."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients make one step: as if `data.batch_size` were so many times larger."""
    freeze_epochs: int = Field(default=0, ge=0)
    """First epochs in which the backbone is frozen and the heads alone learn; 0 = off."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay a step of the running mean of the weights, which is then what is validated and kept,
    e.g. 0.999; 0 = off."""
    monitor: Literal["f1", "accuracy", "loss"] = "f1"
    """What early stopping and plateau look at, on the validation part."""
    early_stop: int = Field(default=0, ge=0)
    """Stop after so many epochs without a better `monitor`; 0 = off."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Mixed precision; auto = bf16 on a GPU that has it, else off."""
    channels_last: bool = True
    """Memory layout that convolutions like best; changes rounding at most."""
    compile: bool = False
    """torch.compile the network: a minute at the start, and faster steps."""

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
    """Cross-validation by person."""

    n_folds: int = Field(default=5, ge=2)
    """Number of person-disjoint folds; each is validated once by a model trained on the others."""
    fold: int | None = Field(default=None, ge=0)
    """Only fold to train, counted from 0; null = all."""
    seed: int = 0
    """Of the split alone, so that runs with other seeds stay comparable."""
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
    """One run: every fold of one task, or of several tasks on one backbone."""

    task: str
    """Task of the label schema; several with commas (one backbone, a head for each), e.g.
    mask,gender,age; or its combined code, e.g. class18."""
    name: str | None = None
    """Name of the run and of its folder; null = TASK-BACKBONE, and -CROPS if not ellipse."""
    init_from: str | None = None
    """Run to continue from when photos or labels were added, by its name or path: its people stay
    in their folds, and each fold starts from that fold's best checkpoint."""
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
    """Device of the network: auto (CUDA where there is one), cpu, cuda or cuda:N. A GPU that is
    named and absent is an error."""
    seed: int = Field(default=0, ge=0)
    """Of initial weights, order of crops, augmentation and dropout."""
    trackers: str = "tensorboard,csv"
    """Trackers that get the numbers of each epoch, with commas: tensorboard, csv, wandb, mlflow,
    trackio. history.csv is written in any case."""
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
    def tracker_names(self) -> tuple[str, ...]:
        """Who gets each epoch's numbers, in the order named."""
        return tuple(self.trackers.split(","))

    @property
    def run_name(self) -> str:
        """The run's folder below the runs directory."""
        only = "".join(f"-{task}={name}" for task, name in self.where.items())
        plain = re.sub(r"[/\\\0]", "_", only)
        return self.name or f"{'+'.join(self.tasks)}{plain}-{self.model.title}"
