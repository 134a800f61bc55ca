"""The network of a run, its initial weights and its loss.

Joins settings, label targets and modules; knows nothing of epochs or loaders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.sampling import part_of
from cropfirst.stage2_classify.data.training_set import TrainingSet
from cropfirst.stage2_classify.model.criterion import Criterion, build_criterion
from cropfirst.stage2_classify.model.models import Classifier, build_classifier
from cropfirst.stage2_classify.model.shipped_weights import load_packed_heads, weights_path
from cropfirst.stage2_classify.model.weights import (
    WeightsReport,
    describe_source,
    load_backbone_weights,
)
from cropfirst.stage2_classify.progress import TrainProgress
from cropfirst.stage2_classify.runs.json_files import write_json
from cropfirst.stage2_classify.runs.run_paths import META_FILE
from cropfirst.stage2_classify.train.fold_setup import FoldSetup
from cropfirst.stage2_classify.train.warm_start import WarmStart

REPORT_FILE = "weights.json"


def build_network(
    config: TrainConfig, training: TrainingSet, *, image_size: int, pretrained: bool
) -> Classifier:
    """Build the network, without the weights that `load_initial_weights` loads.

    Args:
        pretrained: whether published weights may be fetched, if the config asks for them.

    Raises:
        TrainError: an impossible backbone, size or argument, or weights that cannot be fetched.
    """
    settings = config.model
    return build_classifier(
        settings.backbone,
        {task: training.spaces[task].head for task in training.tasks},
        image_size=image_size,
        pretrained=pretrained and bool(_pretrained_backbones(config)),
        drop_rate=settings.drop_rate,
        drop_path_rate=settings.drop_path_rate,
        kwargs=settings.kwargs,
        second=_second(config),
        **_shape(config),
    )


def describe_network(config: TrainConfig, training: TrainingSet) -> dict[str, Any]:
    """Return the entries of meta.json from which `load_checkpoint` builds the network."""
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


def build_model_of_fold(
    setup: FoldSetup, progress: TrainProgress, *, initial_weights: bool
) -> Classifier:
    """Build the model of a fold on its device.

    Args:
        initial_weights: load published weights, `--weights` or `--init-from`; False if a saved
            state follows. Of several processes, only the main one loads them: DDP copies them.
    """
    config, training = setup.config, setup.training
    loads = initial_weights and setup.processes.is_main
    model = build_network(config, training, image_size=setup.source.image_size, pretrained=loads)
    if loads:
        reports, lines = load_initial_weights(
            model, config, setup.folder.name,
            class_names=training.class_names, warm_start=setup.warm_start,
        )  # fmt: skip
        for line in lines:
            progress.say(f"{setup.title}: {line}")
        _write_reports(setup.folder, reports)
    model.to(setup.device)
    model.set_channels_last(config.optim.channels_last)
    return _sync_batch_norm(model, setup, progress) if setup.processes.size > 1 else model


def build_criterion_of_fold(model: Classifier, setup: FoldSetup) -> Criterion:
    """Build the loss; class weights come from the counts in the fold's training part."""
    training = setup.training
    return build_criterion(
        {task: model.head(task) for task in model.tasks},
        training.spaces,
        setup.config.loss,
        counts=training.class_counts(training.rows(setup.fold, held_out=False)),
    )


def load_initial_weights(
    model: Classifier,
    config: TrainConfig,
    fold: str,
    *,
    class_names: Mapping[str, Sequence[str]],
    warm_start: WarmStart | None,
) -> tuple[dict[str, WeightsReport], list[str]]:
    """Load --weights or --init-from.

    Args:
        fold: name of the fold's folder.

    Returns:
        Source -> the keys that matched, and lines for the console that say what was loaded.

    Raises:
        TrainError: a file cannot be read, or is of another architecture.
    """
    reports: dict[str, WeightsReport] = {}
    lines = [
        f"{name}: pretrained weights from {describe_source(name)}"
        for name in _pretrained_backbones(config)
    ]
    if warm_start is not None:
        reports[str(warm_start.checkpoint(fold))] = warm_start.load(
            model, fold, class_names=class_names
        )
    second = config.model.second
    files = [config.model.weights, None if second is None else second.weights]
    for backbone, file in zip(_backbones(model), files, strict=False):
        if file is not None:
            path = weights_path(file)
            reports[file] = load_backbone_weights(backbone, path)
            if second is None and (
                heads := load_packed_heads(model, path, class_names=class_names)
            ):
                lines.append(f"{file}: heads of {', '.join(heads)} loaded too")
            if (path.parent / META_FILE).is_file():
                lines.append(
                    f"{file} is a fold of a run: the people it was trained on may be validated "
                    "here, which flatters; --init-from RUN keeps them apart"
                )
    for name, report in reports.items():
        lines.append(
            f"{name}: {len(report.matched)} tensors loaded, {_some('missing', report.missing)}, "
            f"{_some('not used', report.unexpected)}"
        )
    return reports, lines


def _write_reports(folder: Path, reports: Mapping[str, WeightsReport]) -> None:
    """Write the keys that matched to weights.json, if a file was loaded."""
    if not reports:
        return
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


def _sync_batch_norm(model: Classifier, setup: FoldSetup, progress: TrainProgress) -> Classifier:
    """Let batch norm see the complete batch if torch can, which is on GPUs."""
    if not any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in model.modules()):
        return model
    if setup.device.type == "cuda":
        from timm.layers import convert_sync_batchnorm

        synced: Classifier = convert_sync_batchnorm(model)
        return synced
    part = len(part_of(setup.batch_size, setup.processes.share))
    progress.say(
        f"{setup.title}: batch norm counts the {part} crops of each process apart (on GPUs, all "
        f"{setup.batch_size} together)",
        style="yellow",
    )
    return model


def _backbones(model: Classifier) -> Sequence[nn.Module]:
    bodies = getattr(model.backbone, "bodies", None)
    return [model.backbone] if bodies is None else list(bodies)


def _pretrained_backbones(config: TrainConfig) -> list[str]:
    """Return the names of the backbones that start from published weights."""
    settings = config.model
    if not settings.pretrained or settings.weights is not None or config.init_from is not None:
        return []
    second = [] if settings.second is None else [settings.second.backbone]
    return [settings.backbone, *second]


def _second(config: TrainConfig) -> dict[str, Any] | None:
    second = config.model.second
    return None if second is None else {"backbone": second.backbone, "kwargs": dict(second.kwargs)}


def _shape(config: TrainConfig) -> dict[str, Any]:
    return {"hidden": config.head.hidden, "batch_norm": config.head.batch_norm}


def _some(what: str, names: Sequence[str], *, limit: int = 3) -> str:
    some = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return f"{len(names)} {what}" + (f" ({some})" if names else "")
