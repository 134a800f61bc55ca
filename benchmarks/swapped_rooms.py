"""The agreement of validation and swapped rooms with the score in a new place, on drawn people.

    python benchmarks/swapped_rooms.py [--eval-people 150] [--config RECIPE] [--task TASK]

Draws people whose rooms tell gender and age in training and nothing in eval, and runs `cropfirst
proof` on them, which trains each recipe on whole photos, boxes, ellipses, and boxes in swapped
rooms. Then predicts many more eval people than the demo has, by each fold alone, which is what a
held-out person is predicted by, and by the vote of the folds, which is what is submitted. Ends with
a row per run, and with the rank correlation and the mean distance of both scores.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from cropfirst.cache import Cache
from cropfirst.cli import main as command
from cropfirst.stage2_classify.drawn.contest import draw_contest
from cropfirst.stage2_classify.metrics.scores import macro_f1
from cropfirst.stage2_classify.predict.predictor import Member

SCORES = ("validation", "swapped", "one fold", "vote")


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("work/swapped_rooms"))
@click.option("--people", default=54, show_default=True, help="People to train on.")
@click.option("--eval-people", default=150, show_default=True)
@click.option("--config", "recipes", multiple=True, default=("demo_convnext", "demo_swin"))
@click.option("--task", "tasks", multiple=True, default=("gender", "age"))
@click.option("--epochs", type=int, help="Epochs per fold.  [default: the recipes']")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write the figures.")
def main(
    work: Path, people: int, eval_people: int, recipes: Sequence[str], tasks: Sequence[str],
    epochs: int | None, out: Path | None,
) -> None:  # fmt: skip
    data = work / "data"
    draw_contest(data, n_train_people=people, n_eval_people=eval_people, n_jobs=-1)
    words = ["proof", str(data), "--work", str(work)]
    words += [word for task in tasks for word in ("--task", task)]
    words += [word for recipe in recipes for word in ("--config", recipe)]
    words += [] if epochs is None else ["--set", f"optim.epochs={epochs}"]
    command(words, standalone_mode=False)
    table = score_runs(work)
    for run, scores in table.items():
        numbers = "  ".join(f"{name} {x:.3f}" for name, x in zip(SCORES, scores, strict=True))
        print(f"{run:<34} {numbers}")
    values = np.array([*table.values()])
    for truth in (2, 3):
        for score in (0, 1):
            rank = spearmanr(values[:, score], values[:, truth]).statistic
            distance = np.abs(values[:, score] - values[:, truth]).mean()
            print(
                f"{SCORES[score]} against {SCORES[truth]} in the new place, {len(values)} runs: "
                f"rank correlation {rank:+.2f}, mean distance {distance:.3f}"
            )
    if out is not None:
        out.write_text(json.dumps({"columns": SCORES, "runs": table}))


def score_runs(work: Path) -> dict[str, list[float]]:
    """Return run -> macro F1 by `SCORES`; the last two are of the eval photos."""
    cache = Cache.open(work / "cache")
    found = {}
    for run in sorted((work / "proof" / "runs").iterdir()):
        task = run.name.split("-")[0]
        about = json.loads((run / "metrics.json").read_text())["tasks"][task]
        crops = cache.find(json.loads((run / "run.json").read_text())["crop_set"]["name"])
        keys, targets = eval_photos(work / "data", task)
        reader = crops.reader()
        pixels = [np.array(reader[key]) for key in keys]
        folds = [
            Member.load(folder, device="cpu").predict_crops(pixels)[task]
            for folder in sorted(run.glob("fold*/best_f1"))
        ]
        n_classes = folds[0].shape[1]
        alone = [macro_f1(targets, each.argmax(1), n_classes) for each in folds]
        vote = macro_f1(targets, np.sum(folds, 0).argmax(1), n_classes)
        swapped = about["swapped"]["macro_f1"]
        found[run.name] = [about["macro_f1"], swapped, float(np.mean(alone)), vote]
    return found


def eval_photos(data: Path, task: str) -> tuple[list[str], NDArray[np.int64]]:
    """Return the keys of the eval photos, and their class numbers of a task."""
    with (data / "eval" / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    codes = np.array([int(row["ans"]) for row in rows])
    of_task = {"mask": codes // 6, "gender": codes % 6 // 3, "age": codes % 3}
    return [f"eval/images/{row['ImageID']}" for row in rows], of_task[task]


if __name__ == "__main__":
    main()
