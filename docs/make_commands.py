"""Write docs/commands.md from the commands themselves, so that page and `--help` cannot part.

Options, their values and their help come from the commands; the examples, and what a command
writes, are kept here. After a change to either: python docs/make_commands.py
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

import click

from cropfirst.cli import main

OUT = Path(__file__).resolve().parent / "commands.md"
HEAD = """# Commands

<!-- Written by docs/make_commands.py from the commands. Change them, not this page, and run it. -->

`cropfirst COMMAND ...` and `python cli.py COMMAND ...` are the same. Every command has `--help`,
exits with 0 when it is done, with 1 and one message when it cannot be, with 2 when it was spelt
wrongly, with 130 when Ctrl-C stopped it, and with 143 when SIGTERM did.

`DATA` is the one thing to name: a data set's folder, or the `.csv` table of one. Its
[layout](datasets.md#layouts) is recognised, or named with `--layout`. `WORK` is `work/NAME`, where
NAME is the data set's folder, or what `--work` says. Options may stand before `DATA` or behind it.
"""


@dataclass(frozen=True)
class Notes:
    """What cannot be read off a command."""

    examples: str
    """Lines of shell."""
    writes: tuple[str, ...]
    """What is there afterwards, in Markdown."""


NOTES = {
    "detect": Notes(
        examples="""
# Every photo of a data set, with the standard crops
cropfirst detect my_photos
# The same faces, cut wider: nothing is detected anew
cropfirst detect my_photos --set crop.margin=0.3
# A baseline that shows the room, beside the crops that are there; train it with --crops box
cropfirst detect my_photos --background box
# Look for small faces, and keep every crop as a PNG to look at
cropfirst detect my_photos --set detector.min_face_size=20 --export work/my_photos/look
# With weights that harden has written
cropfirst detect my_photos --weights work/harden/fold0/weights.safetensors
# By the workers of a Dask cluster, see cluster.md
DASK_SCHEDULER_ADDRESS=tcp://HOST:8786 cropfirst detect my_photos --backend dask
""",
        writes=(
            "`WORK/cache/`: the [crop cache](cache-format.md): what was found in every photo, and "
            "one crop set for each kind of crop",
            "`WORK/detect/NAME.png`: a contact sheet of the crops",
            "`WORK/detect/NAME-not-detected.png`: the photos that are not `detected`, with "
            "the box that was used; look at these",
            "with `--export DIR`: every crop as `DIR/KEY.png`",
        ),
    ),
    "train": Notes(
        examples="""
# One task, five folds, from timm's ImageNet weights
cropfirst train my_photos --task label
# Three tasks on one backbone, with another timm model
cropfirst train contest_data --task mask,gender,age --backbone swin_tiny_patch4_window7_224
# From scratch and small, on a machine without network or GPU
cropfirst train my_photos --task label --backbone convnext_atto --no-pretrained --epochs 20
# Rare classes as often as the others, halves of two faces in one, then a model of everybody
cropfirst train contest_data --task age --set data.sampler=weighted \\
    --set data.mix.kind=half_cutmix --all-data --preload ram
# One fold alone; another process, on another GPU, may train the next one of the same run
cropfirst train my_photos --task label --name night --fold 0 --device cuda:0
# One model over four GPUs, see cluster.md
accelerate launch --num_processes 4 --no_python cropfirst train my_photos --task label
""",
        writes=(
            "`WORK/runs/NAME/config.yaml`, `schema.json`, `run.json`, `folds.parquet`: what the "
            "run is made from, written before the first step",
            "`WORK/runs/NAME/fold0/` and so on: checkpoints `best_f1/`, `best_accuracy/`, "
            "`best_loss/` and `last/` (`model.safetensors` and `meta.json`), `history.csv`, "
            "`oof.parquet`, `metrics.json`; `all/`, of --all-data, has `last/` alone",
            "`WORK/runs/NAME/oof.parquet` and `metrics.json`: out-of-fold predictions and scores "
            "of all finished folds",
            "`WORK/runs/NAME/tensorboard/`: look with `tensorboard --logdir WORK/runs`",
        ),
    ),
    "sweep": Notes(
        examples="""
# Two recipes, each with two learning rates, on three tasks: four lines of five folds each
cropfirst sweep contest_data demo_swin demo_convnext --grid optim.lr=1e-3,3e-4 \\
    --task mask --task gender --task age
# One setting of the defaults; differences are taken from the best line
cropfirst sweep my_photos --task label --grid data.augment=none,basic --baseline best
# How much does the seed alone do?
cropfirst sweep my_photos my_recipe.yaml --task label --grid seed=0,1,2,3 --name seeds
""",
        writes=(
            "`WORK/sweeps/NAME/LINE/TASK/`: a run for each line and task, as train writes it; "
            "`predict` does not look here by itself: give `--runs WORK/sweeps/NAME/LINE`",
            "`WORK/sweeps/NAME/sweep.html`: the table, sorted by a click; needs no other file",
            "`WORK/sweeps/NAME/sweep.parquet` and `sweep.json`: the same table, and each line's "
            "settings; [what the columns mean](sweeps.md)",
            "for a job that failed: the reason, in its fold's `failed.json`, the table and at the "
            "end of the command, which then exits with 1",
        ),
    ),
    "tune": Notes(
        examples="""
# Twenty trials around a recipe, over the default space
cropfirst tune my_photos --task label --config my_recipe.yaml
# A space of one's own; ten trials more than there are
cropfirst tune my_photos --task label --trials 30 --name wide \\
    --space optim.lr=log:1e-5,1e-2 --space data.batch_size=16,32,64 --space optim.epochs=int:5,20,5
# What it has found
cropfirst train my_photos --config work/my_photos/tune/wide/best.yaml
""",
        writes=(
            "`WORK/tune/NAME/best.yaml`: the best trial's settings as a recipe for "
            "`train --config`, with its score",
            "`WORK/tune/NAME/study.db`: the Optuna study, an SQLite file",
            "`WORK/tune/NAME/trials/0000/TASK/`: a run for each trial; of weights, only those of "
            "the best trial are kept",
        ),
    ),
    "predict": Notes(
        examples="""
# The eval photos of a data set (all photos, where it has no eval split), with all its runs
cropfirst predict contest_data
# New photos, with runs that were trained elsewhere: detect them first
cropfirst detect new_photos
cropfirst predict new_photos --runs work/my_photos/runs
# All folds alike, whatever ensemble has found
cropfirst predict contest_data --ensemble none
# Single photos, end to end
cropfirst predict portrait.jpg another.png --runs work/my_photos/runs
""",
        writes=(
            "`WORK/predict/submission.csv`: with an `eval/info.csv` exactly its rows in its order, "
            "one code each; else every photo's path and classes",
            "`WORK/predict/predictions.parquet`: key, image_id, split, status, members (how many "
            "models looked at the photo), `TASK_probs`, `TASK_pred`, `TASK_prob` (of what was "
            "predicted), code",
            "for single photos only what `--out` names; the table on the console is the answer",
        ),
    ),
    "ensemble": Notes(
        examples="""
# From the out-of-fold predictions alone: weights, thresholds, temperature
cropfirst ensemble contest_data
# Also mirrored and scaled crops, mean weights of checkpoints, and weights for each mask state
cropfirst ensemble contest_data --tta flip,scale --soup epochs --route age=mask
# Of some runs, and nothing but thresholds; predict it with the same --runs
cropfirst ensemble contest_data --runs work/contest_data/runs/age --steps thresholds
cropfirst predict contest_data --runs work/contest_data/runs/age
# One network that is the mean of a run's folds; it has no out-of-fold score
cropfirst ensemble contest_data --soup folds
cropfirst predict contest_data --runs work/contest_data/runs/age/soup/folds
""",
        writes=(
            "`WORK/ensemble/ensemble.json`: which runs, how they vote, and what each step gained; "
            "`predict` uses it while it is for its runs",
            "`WORK/ensemble/out-of-fold/`: with `--tta` and `--soup`, repeated predictions",
            "with `--soup epochs`: `WORK/runs/RUN/foldK/soup/`, which `--checkpoint soup` takes; "
            "with `--soup folds`: `WORK/runs/RUN/soup/folds/`",
        ),
    ),
    "eda": Notes(
        examples="""
# Before detect: counts, brightness, photos that are there twice; after it, faces too
cropfirst eda contest_data
# With the room that each photo was taken in, if it is known
cropfirst eda contest_data --rooms rooms.csv
# Counts alone: no photo is opened
cropfirst eda contest_data --no-photos
""",
        writes=(
            "`WORK/eda/eda.json`: all counts, and distributions as quantiles",
            "`WORK/eda/classes.png`, `faces.png`, `rooms.png`",
        ),
    ),
    "report": Notes(
        examples="""
# All runs of a data set
cropfirst report work/contest_data/runs
# Two of them, for a page of their own, without Grad-CAM
cropfirst report work/contest_data/runs/age work/contest_data/runs/mask --no-cam --out two.html
""",
        writes=(
            "`WORK/report.html`: one file that needs no other; parts that have not been made are "
            "named there, with the command that makes them",
        ),
    ),
    "evaluate": Notes(
        examples="""
# Out-of-fold: every photo scored by models that have not seen its person
cropfirst evaluate my_photos
# The prediction for the eval photos, against their true codes
cropfirst evaluate contest_data --answers answers.csv
# A prediction against the labels that the data set itself has for these photos
cropfirst evaluate my_photos --predictions work/my_photos/predict/predictions.parquet
""",
        writes=(
            "`WORK/evaluate/evaluation.json`: macro F1, accuracy, every class, the confusion "
            "matrices, and scores by crop status; out of fold also intervals, slices, calibration "
            "and the surest mistakes",
            "`WORK/evaluate/confusion_TASK.png`, and out of fold `reliability_TASK.png` and "
            "`mistakes_TASK.png`",
        ),
    ),
    "audit": Notes(
        examples="""
# All runs of a data set side by side, on the same changed photos
cropfirst audit work/my_photos/runs
# Two runs, on all photos
cropfirst audit work/my_photos/runs/eyes-photo work/my_photos/runs/eyes-box --limit 0
""",
        writes=(
            "`WORK/audit/audit.json` and `audit.parquet`: accuracy and macro F1 on every variant, "
            "BG-Gap, Grad-CAM and probe, each with its interval; [how to read them](audit.md)",
            "`WORK/audit/variants-TASK.png`: photos as they are changed; `crops-TASK.png`: what is "
            "left of the changes in each crop set; look at these before you believe a figure",
            "`WORK/audit/gaps.png`: the gaps as a picture",
            "`WORK/audit/answers/`: what was answered so far, for a killed audit to go on with",
        ),
    ),
    "relabel": Notes(
        examples="""
# All tasks, by the votes of all runs
cropfirst relabel my_photos
# One task of runs that were trained with corrections, the whole photos on the page
cropfirst relabel contest_data --task gender --corrections contest --crops photo
""",
        writes=(
            "`WORK/relabel/relabel.html`: one page that needs no other file: the crops, the given "
            "and the suggested label; keys decide, and it hands out `corrections.csv`",
            "`WORK/relabel/suggested.csv`: corrections that take every suggestion",
            "`WORK/relabel/label_issues.parquet`: the same as a table, the surest first",
        ),
    ),
    "verify": Notes(
        examples="""
# Read every row, crop and checkpoint; exits with 1 where anything is bad
cropfirst verify my_photos
# Take out what is bad, detect and cut just that anew, and check again
cropfirst verify my_photos --repair
""",
        writes=(
            "nothing, without `--repair`",
            "with `--repair`: the cache, without what was bad and with it done anew; folds with "
            "damaged checkpoints are removed, and the same `train` command trains them again",
        ),
    ),
    "compact": Notes(
        examples="""
# After detect --backend: one file of crops instead of one a worker
cropfirst compact my_photos
""",
        writes=("`WORK/cache/crops/NAME/shard-000/`: all crops; the other shards are removed",),
    ),
    "harden": Notes(
        examples="""
# Photos of bare faces, or with a boxes.csv; one part of ten is held out and measured on
cropfirst harden my_photos
# Several data sets, and masks of one's own beside the drawn ones
cropfirst harden my_photos more_photos --templates masks --out work/hardened
# Of all photos, for use: nothing is held out, and nothing measured
cropfirst harden my_photos --all-data
# How it works, and what it needs: hardening.md
cropfirst harden my_photos --boxes boxes.csv --folds 5 --fold 1 --set paste.incorrect=0.3
""",
        writes=(
            "`OUT/foldN/weights.safetensors` (`OUT/all/` with `--all-data`): for `detect "
            "--weights`; `card.json`: what they were made of",
            "`OUT/foldN/report/report.html`: faces found before and after on held-out photos with "
            "boxes; `report-pasted/`: on those without, masks pasted on them",
            "`OUT/foldN/state.safetensors`: what a killed run goes on from; "
            "`OUT/teacher-*.parquet`: what the detector said before, of every photo",
            "`OUT/folds.json`: which photos with boxes each fold's weights never learnt from",
        ),
    ),
    "demo": Notes(
        examples="""
# What `make demo` runs
cropfirst demo --work work/demo
""",
        writes=(
            "`WORK/data/`: the drawn photographs in the contest's layout",
            "`WORK/cache/`, `WORK/detect/`, `WORK/runs/`, `WORK/predict/`, `WORK/evaluate/`: what "
            "the other commands write",
        ),
    ),
}


def page() -> str:
    """The whole of docs/commands.md.

    Raises:
        KeyError: a command has no notes above.
    """
    context = click.Context(main)
    names = main.list_commands(context)
    return HEAD + "".join(_section(name, main.get_command(context, name)) for name in names)


def _section(name: str, command: click.Command | None) -> str:
    assert command is not None
    notes = NOTES[name]
    context = click.Context(command)
    arguments = [_argument(each) for each in command.params if _is_argument(each)]
    usage = " ".join(["cropfirst", name, "[OPTIONS]", *arguments])
    help_text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    options = [each for each in command.params if isinstance(each, click.Option)]
    rows = "\n".join(_row(each, context) for each in options)
    writes = "\n".join(f"- {line}" for line in notes.writes)
    return f"""
## {name}

    {usage}

{help_text}

```bash
{notes.examples.strip()}
```

Writes:

{writes}

| option | meaning |
|---|---|
{rows}
"""


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _argument(parameter: click.Parameter) -> str:
    return parameter.metavar or (parameter.name or "").upper()


def _row(option: click.Option, context: click.Context) -> str:
    """Return an option as `--help` shows it."""
    names, meaning = option.get_help_record(context) or ("", "")
    return f"| `{_cell(names)}` | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    OUT.write_text(page(), encoding="utf-8")
    print(f"{OUT.name} is written")
