"""Scores finished folds in swapped rooms that were made after their training.

Knows checkpoints and swapped crops; trains nothing.
"""

from __future__ import annotations

from cropfirst.stage2_classify.progress import TrainProgress
from cropfirst.stage2_classify.runs.checkpoint import load_checkpoint
from cropfirst.stage2_classify.runs.json_files import read_json, write_json
from cropfirst.stage2_classify.runs.parquet import write_parquet
from cropfirst.stage2_classify.runs.run_folder import RunFolder, run_lock
from cropfirst.stage2_classify.runs.swapped_scores import SWAPPED_FILE
from cropfirst.stage2_classify.train.fold_batches import build_batches
from cropfirst.stage2_classify.train.fold_setup import FoldSetup
from cropfirst.stage2_classify.train.network import build_criterion_of_fold
from cropfirst.stage2_classify.train.validation import predict_swapped


def needs_swapped_scores(run: RunFolder, fold: int, fingerprint: str | None) -> bool:
    """Tell whether a finished fold has no predictions of the present swapped crops.

    Args:
        fingerprint: of the present swapped crops; None if there are none.
    """
    if fingerprint is None:
        return False
    folder = run.fold(fold)
    stored = read_json(folder / "metrics.json").get("swapped")
    return stored != fingerprint or not (folder / SWAPPED_FILE).is_file()


def score_in_swapped_rooms(setup: FoldSetup, progress: TrainProgress) -> None:
    """Predict the swapped crops by the best checkpoint of a finished fold, and keep the table.

    The epoch stays the one that was chosen before.

    Raises:
        TrainError: the checkpoint is missing or damaged, or another process is training the fold.
    """
    model, _ = load_checkpoint(setup.folder / "best_f1", device=setup.device)
    batches = build_batches(setup, model)
    if batches.swapped is None:
        return
    criterion = build_criterion_of_fold(model, setup).to(setup.device)
    progress.say(f"{setup.title}: finished before, now scored in swapped rooms")
    table = predict_swapped(setup, batches, model, criterion, progress).table
    if not setup.processes.is_main:
        return
    with run_lock(setup.folder):
        write_parquet(setup.folder / SWAPPED_FILE, table)
        about = setup.folder / "metrics.json"
        write_json(about, {**read_json(about), "swapped": setup.swapped_fingerprint})
