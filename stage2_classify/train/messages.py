"""The messages of training: how it starts, what is unusual, and why it failed.

Knows settings, counts and the console; trains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from cropfirst.cache import CropSet
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.data.copies import find_copies_across_folds
from cropfirst.stage2_classify.data.training_set import TrainingSet, absent_classes
from cropfirst.stage2_classify.progress import say
from cropfirst.stage2_classify.runs.results import RunSummary, describe_swapped
from cropfirst.stage2_classify.runs.run_folder import RunFolder
from cropfirst.stage2_classify.runs.swapped_scores import NOT_CHECKED
from cropfirst.stage2_classify.train.fold_setup import FoldSetup
from cropfirst.stage2_classify.train.warm_start import WarmStart


def say_start(
    console: Console,
    config: TrainConfig,
    training: TrainingSet,
    run: RunFolder,
    *,
    todo: Sequence[int],
    finished: int,
) -> None:
    """Print what is trained on, what is left out, and which folds are finished."""
    groups = training.table["group"]
    persons = groups.drop_nulls().n_unique() + groups.null_count()
    text = f"{config.task}: {len(training)} photos, {persons} persons, {config.folds.n_folds} folds"
    say(console, f"{text}, {config.model.title}")
    for reason, count in training.excluded.items():
        say(console, f"  left out: {count} photos, {reason}")
    if not todo:
        say(console, f"{run.path} is finished already: nothing to train")
    elif finished:
        say(console, f"{finished} folds are finished already")


def say_special_settings(
    console: Console,
    config: TrainConfig,
    training: TrainingSet,
    warm_start: WarmStart | None,
    *,
    todo: Sequence[int],
) -> None:
    """Print conditions, label rules, the run to start from and absent classes, with counts."""
    if config.where:
        part = int(training.table["applies"].sum())
        only = ", ".join(f"{task} {name}" for task, name in config.where.items())
        say(console, f"  trained on {only} alone: {part} photos")
    for rule, count in training.rules.items():
        note = f"  in training alone: {count} photos, {rule}"
        say(console, note, style="" if count else "yellow")
    if warm_start is not None:
        keys, groups = (training.table[name].to_list() for name in ("key", "group"))
        new = list(warm_start.folds_of(keys, groups)).count(None)
        say(console, f"  goes on from {warm_start.path}: {new} photos are of new people")
    for fold in todo:
        for task, names in absent_classes(training, fold).items():
            text = f"  fold {fold} is not trained on {', '.join(names)} of {task}, and asked for it"
            say(console, f"{text}: too few people have it", style="yellow")


def say_batch_size(console: Console, config: TrainConfig, *, n_rows: int) -> None:
    """Print the batch size that was chosen.

    Args:
        n_rows: number of crops in the smallest training part.
    """
    size = config.data.batch_size
    if size is None:  # of a run that an earlier version began
        return
    steps = -(-n_rows // (size * config.optim.accumulate))
    say(console, f"  data.batch_size={size}, by default: about {steps} steps per epoch")


def say_copies(console: Console, training: TrainingSet, crops: CropSet) -> None:
    """Warn of copies of one photo that are in different folds."""
    copies = find_copies_across_folds(training, crops)
    if not copies:
        return
    text = (
        f"  warning: {len(copies)} crops occur in more than one fold, in {sum(map(len, copies))} "
        f"photos ({', '.join(copies[0][:2])}{', ...' if len(copies) > 1 else ''}): the scores "
        f"measure memory there. Give copies of a photo the same person (column `group`), or remove "
        f"them; eda also finds photos that are nearly the same"
    )
    say(console, text, style="yellow")


def say_device(console: Console, *, asked: str, name: str, n_processes: int) -> None:
    """Print the device, loudly if it is the CPU because there is no GPU."""
    if n_processes > 1:
        name = f"{name}, in each of {n_processes} processes"
    if asked == "auto" and name.startswith("cpu"):
        text = f"No GPU: training on the {name}, many times slower."
        say(console, text, style="bold yellow")
    else:
        say(console, f"device: {name}")


def say_rooms(console: Console, summary: RunSummary, *, reason: str) -> None:
    """Print whether the scores hold in other rooms, and which score chose the epochs.

    Args:
        reason: why the run was not scored in swapped rooms, if it was not.
    """
    if not summary.swapped:
        say(console, reason or NOT_CHECKED, style="yellow")
        return
    for line in describe_swapped(summary):
        say(console, line)
    what = "swapped-rooms F1" if summary.choose_by == "swapped" else "out-of-fold F1"
    say(console, f"the epochs were chosen by {what}")
    for task, score in summary.swapped.items():
        if score.falls:
            say(console, f"warning: {score.warning(task)}", style="bold yellow")


def explain_divergence(setup: FoldSetup) -> str:
    """Return the message of a loss that became NaN or infinite."""
    settings = setup.config.optim
    return (
        f"{setup.title}: the loss became NaN or infinite; {_what_is_kept(setup)}. Train under "
        f"another --name with a lower optim.lr (now {settings.lr:g}), a longer "
        f"optim.warmup_epochs (now {settings.warmup_epochs:g}), optim.clip_grad=1 (now "
        f"{settings.clip_grad:g}) or optim.amp=off (now {settings.amp})"
    )


def explain_memory(setup: FoldSetup) -> str:
    """Return the message of memory that ran out."""
    accumulate = setup.config.optim.accumulate
    place = "the GPU's memory" if setup.device.type == "cuda" else "the memory"
    half = max(setup.batch_size // 2, 1)
    return (
        f"{setup.title}: {place} is too small for {setup.config.model.title} with "
        f"data.batch_size={setup.batch_size} and {setup.source.image_size} pixels; "
        f"{_what_is_kept(setup)}. Train under another --name with data.batch_size={half} and "
        f"optim.accumulate={2 * accumulate}, which learns the same, or a smaller data.image_size"
    )


def _what_is_kept(setup: FoldSetup) -> str:
    last = setup.folder / "last"
    return f"the checkpoint before is kept in {last}" if last.is_dir() else "no epoch was finished"
