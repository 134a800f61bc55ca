"""`proof`: one network on several kinds of crops, scored where it was trained and elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cropfirst.cache import crop_set_name
from cropfirst.configs.options import path_option
from cropfirst.core.console import say
from cropfirst.core.fingerprint import fingerprint
from cropfirst.stage2_classify.commands.detect_settings import default_crops
from cropfirst.stage2_classify.commands.steps import run_step
from cropfirst.stage2_classify.commands.workspace import data_options, open_workspace

if TYPE_CHECKING:
    from rich.console import Console

    from cropfirst.stage2_classify.commands.workspace import Workspace
    from cropfirst.stage2_classify.proof.proof import ProofRow

TRAINING_DRAWS = 3
"""Number of draws of swapped crops that the last line trains on."""


@dataclass(frozen=True)
class ProofLine:
    """A run of the proof: its crops, and whether it is trained in swapped rooms."""

    name: str
    title: str
    background: str
    swap_rooms: float = 0.0


LINES = (
    ProofLine("photo", "whole photos", "photo"),
    ProofLine("box", "boxes", "box"),
    ProofLine("ellipse", "ellipses", "ellipse"),
    ProofLine("box-swapped", "boxes, swapped", "box", 0.5),
)


@click.command()
@data_options()
@click.option(
    "--task", "tasks", metavar="TASK", required=True, multiple=True,
    help="Task to train, such as gender (repeatable).",
)  # fmt: skip
@click.option(
    "--config", "recipes", metavar="FILE", multiple=True,
    help="Recipe of the crops and the network (repeatable).",
)  # fmt: skip
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True,
    help="One setting of train, e.g. optim.lr=1e-3 (repeatable).",
)  # fmt: skip
@path_option(
    "--answers", metavar="FILE",
    help="CSV of the eval photos' true codes.  [default: DATA/eval/answers.csv, if any]",
)  # fmt: skip
def proof(
    tasks: Sequence[str], recipes: Sequence[str], overrides: Sequence[str], answers: Path | None,
    **data: Any,
) -> None:  # fmt: skip
    """Show what validation promises, and what a new place gives.

    Trains the same network on whole photos, boxes, ellipses, and boxes in swapped rooms. Ends with
    one table per task and one picture: what validation promised, what the swapped rooms say, and
    what a new place gave, where the labels of the eval photos are known. Each step is printed as
    the command that does it. A proof that was interrupted continues when the same command is given
    again.
    """
    from rich.console import Console

    from cropfirst.stage2_classify.proof.proof import agreements, proof_table, write_proof

    console = Console()
    workspace = open_workspace(**data)
    steps = _Steps(console, workspace, _places(workspace, data), tuple(overrides), answers)
    rows = []
    for recipe in recipes or (None,):
        for line in LINES:
            crops = steps.detect(line, recipe)
            rows += [steps.score(line, recipe, task, crops) for task in tasks]
    folder = workspace.folder / "proof"
    picture = write_proof(rows, folder)
    for task in dict.fromkeys(tasks):
        console.print(proof_table(rows, task))
    for each in agreements(rows):
        say(
            console,
            f"{each.score} against the new place, {each.n_runs} runs: rank correlation "
            f"{each.rank_correlation:+.2f}, mean distance {each.distance:.3f}",
        )
    if any(row.new_place is None for row in rows):
        say(
            console,
            "the new place is not known where no eval photo has a label of the task: give the true "
            "codes with --answers FILE",
        )
    say(console, f"written: {picture} and {folder / 'proof.json'}")


def _places(workspace: Workspace, data: dict[str, Any]) -> list[str]:
    """Return the arguments that name the data set and its folders, for each step."""
    words = [str(data["data"]), "--work", str(workspace.folder)]
    for name, value in (("--layout", data["layout"]), ("--cache", data["cache_dir"])):
        words += [] if value is None else [name, str(value)]
    return words


@dataclass(frozen=True)
class _Steps:
    """The commands that a proof consists of."""

    console: Console
    workspace: Workspace
    places: Sequence[str]
    overrides: tuple[str, ...]
    answers: Path | None

    def detect(self, line: ProofLine, recipe: str | None) -> str:
        """Make the crops of a line and their swapped crops; return the name of the crop set."""
        shared = [each for each in LINES if each.background == line.background]
        draws = 1 + (TRAINING_DRAWS if any(each.swap_rooms for each in shared) else 0)
        run_step(
            self.console, "detect", *self.places, *_config(recipe), "--background",
            line.background, "--swap-rooms", "--set", f"swap.draws={draws}",
        )  # fmt: skip
        wanted = default_crops(recipe, self.workspace.open_cache())
        wanted["crop"]["background"] = line.background
        return crop_set_name(line.background, wanted["crop"]["image_size"], fingerprint(wanted))

    def score(self, line: ProofLine, recipe: str | None, task: str, crops: str) -> ProofRow:
        """Train a line on a task, and score it in the three places."""
        from cropfirst.stage2_classify.proof.proof import read_row

        folder = self.workspace.folder / "proof"
        recipe_name = "" if recipe is None else Path(recipe).stem
        name = f"{task}-{line.name}{f'-{recipe_name}' if recipe else ''}"
        run = folder / "runs" / name
        more = [word for each in self.overrides for word in ("--set", each)]
        if line.swap_rooms:
            more += ["--set", f"data.swap_rooms={line.swap_rooms:g}"]
        run_step(
            self.console, "train", *self.places, *_config(recipe), "--task", task, "--crops",
            crops, "--runs", run.parent, "--name", run.name, *more,
        )  # fmt: skip
        evaluation = self._evaluate(run, task)
        return read_row(run, task, evaluation, title=line.title, recipe=recipe_name)

    def _evaluate(self, run: Path, task: str) -> Path | None:
        """Predict and score the eval photos; None if their labels are not known."""
        default = self.workspace.photos.root / "eval" / "answers.csv"
        given: list[str | Path] = []
        if self.answers is not None or default.is_file():
            given = ["--answers", self.answers or default]
        elif not any(task in each.labels for each in self.workspace.photos.by_split("eval")):
            return None
        folder = self.workspace.folder / "proof"
        predicted, out = folder / "predict" / run.name, folder / "evaluate" / run.name
        run_step(
            self.console, "predict", *self.places, "--runs", run, "--out", predicted,
            "--ensemble", "none", "--no-submission",
        )  # fmt: skip
        run_step(
            self.console, "evaluate", *self.places, *given, "--predictions",
            predicted / "predictions.parquet", "--out", out,
        )  # fmt: skip
        return out / "evaluation.json"


def _config(recipe: str | None) -> list[str]:
    return [] if recipe is None else ["--config", recipe]
