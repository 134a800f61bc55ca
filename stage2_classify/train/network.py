"""A run's network, its first weights and its loss, as the config and the training set say.

The one place that joins settings, label targets and modules; knows nothing of epochs or loaders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.model.criterion import Criterion, build_criterion
from cropfirst.stage2_classify.model.models import Classifier, build_classifier
from cropfirst.stage2_classify.model.weights import WeightsReport, load_backbone_weights
from cropfirst.stage2_classify.runs.checkpoint import META_FILE, write_json
from cropfirst.stage2_classify.train.warm_start import Origin

REPORT_FILE = "weights.json"


def model_of(
    config: TrainConfig, training: TrainingSet, *, image_size: int, pretrained: bool
) -> Classifier:
    """The network with its first weights, those of `load_first_weights` not yet among them.

    Args:
        pretrained: published weights may be fetched, where the config asks for them.

    Raises:
        TrainError: a backbone, size or argument that cannot be, or weights that cannot be had.
    """
    settings = config.model
    elsewhere = settings.weights is not None or config.init_from is not None
    return build_classifier(
        settings.backbone,
        {task: training.spaces[task].head for task in training.tasks},
        image_size=image_size,
        pretrained=pretrained and settings.pretrained and not elsewhere,
        drop_rate=settings.drop_rate,
        drop_path_rate=settings.drop_path_rate,
        kwargs=settings.kwargs,
        second=_second(config),
        **_shape(config),
    )


def network_meta(config: TrainConfig, training: TrainingSet) -> dict[str, Any]:
    """What a checkpoint's meta.json says of the network, for `load_checkpoint` to build it."""
    return {
        "backbone": config.model.backbone,
        "model_kwargs": dict(config.model.kwargs),
        "second": _second(config),
        "heads": {task: list(names) for task, names in training.class_names.items()},
        "head_specs": {task: training.spaces[task].head.to_dict() for task in training.tasks},
        "head_shape": _shape(config),
        "where": dict(config.where),
        "routing": config.routing,
    }


def make_criterion(
    model: Classifier, config: TrainConfig, training: TrainingSet, *, fold: int
) -> Criterion:
    """The loss; classes are weighed by their numbers in what the fold is trained on."""
    return build_criterion(
        {task: model.head(task) for task in model.tasks},
        training.spaces,
        config.loss,
        counts=training.class_counts(training.rows(fold, held_out=False)),
    )


def load_first_weights(
    model: Classifier,
    config: TrainConfig,
    folder: Path,
    *,
    class_names: Mapping[str, Sequence[str]],
    origin: Origin | None,
) -> list[str]:
    """Load --weights or --init-from, and write which keys fitted to weights.json in `folder`.

    Returns:
        What was loaded, in lines to be shown.

    Raises:
        TrainError: a file that is none, or of another architecture.
    """
    reports: dict[str, WeightsReport] = {}
    lines: list[str] = []
    if origin is not None:
        reports[str(origin.checkpoint(folder.name))] = origin.load(
            model, folder.name, class_names=class_names
        )
    bodies = _bodies(model)
    second = config.model.second
    files = [config.model.weights, None if second is None else second.weights]
    for body, file in zip(bodies, files, strict=False):
        if file is not None:
            reports[file] = load_backbone_weights(body, Path(file))
            if (Path(file).parent / META_FILE).is_file():
                lines.append(
                    f"{file} is a fold of a run: the people it was trained on may be validated "
                    "here, which flatters; --init-from RUN keeps them apart"
                )
    for name, report in reports.items():
        lines.append(
            f"{name}: {len(report.matched)} tensors loaded, {_some('missing', report.missing)}, "
            f"{_some('not used', report.unexpected)}"
        )
    if reports:
        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            name: {
                "matched": list(report.matched),
                "missing": list(report.missing),
                "unexpected": list(report.unexpected),
            }
            for name, report in reports.items()
        }
        write_json(folder / REPORT_FILE, tables)
    return lines


def _bodies(model: Classifier) -> Sequence[nn.Module]:
    bodies = getattr(model.backbone, "bodies", None)
    return [model.backbone] if bodies is None else list(bodies)


def _second(config: TrainConfig) -> dict[str, Any] | None:
    second = config.model.second
    return None if second is None else {"backbone": second.backbone, "kwargs": dict(second.kwargs)}


def _shape(config: TrainConfig) -> dict[str, Any]:
    return {"hidden": config.head.hidden, "batch_norm": config.head.batch_norm}


def _some(what: str, names: Sequence[str], *, limit: int = 3) -> str:
    some = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return f"{len(names)} {what}" + (f" ({some})" if names else "")
