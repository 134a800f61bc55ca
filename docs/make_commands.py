"""Write docs/commands.md from the commands themselves, so that the page and `--help` agree.

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

`cropfirst COMMAND ...` and `python cli.py COMMAND ...` are the same. Every command has `--help`.
The exit code is 0 on success, 1 with a message on an error, 2 when the command line is not valid,
130 after Ctrl-C and 143 after SIGTERM.

`DATA` is the folder of a data set, or its `.csv` table. Its [layout](datasets.md#layouts) is
recognised, or given by `--layout`. `WORK` is the folder given by `--work`, by default `work/NAME`,
where NAME is the name of the data set's folder. Options may come before or after `DATA`.
"""


@dataclass(frozen=True)
class Notes:
    """The part of a section that the command itself does not say."""

    examples: str
    """Lines of shell."""
    writes: tuple[str, ...]
    """Files that the command writes, in Markdown."""


NOTES = {
    "detect": Notes(
        examples="""
# Every photo of a data set, with the standard crops
cropfirst detect my_photos
# Also the same heads in the rooms of other people, to score runs by
cropfirst detect my_photos --swap-rooms
# The same faces with a wider margin: nothing is detected again
cropfirst detect my_photos --set crop.margin=0.3
# A baseline that shows the background, in a crop set of its own; train on it with --crops box
cropfirst detect my_photos --background box
# Look for small faces, and keep every crop as a PNG to look at
cropfirst detect my_photos --set detector.min_face_size=20 --export work/my_photos/look
# With weights that harden has written
cropfirst detect my_photos --weights work/harden/fold0/weights.safetensors
# On the workers of a Dask cluster, see cluster.md
DASK_SCHEDULER_ADDRESS=tcp://HOST:8786 cropfirst detect my_photos --backend dask
""",
        writes=(
            "`WORK/cache/`: the [crop cache](cache-format.md): the faces found in every photo, and "
            "one crop set for each kind of crop",
            "`WORK/detect/NAME.png`: a contact sheet of the crops",
            "`WORK/detect/NAME-swapped.png`: with a swapped twin, crops beside their swapped crops",
            "`WORK/detect/NAME-not-detected.png`: the photos whose status is not `detected`, with "
            "the box that was used; check these",
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
# Rare classes sampled as often as the others, halves of two faces mixed, then a model of all photos
cropfirst train contest_data --task age --set data.sampler=weighted \\
    --set data.mix.kind=half_cutmix --all-data --preload ram
# One fold; another process on another GPU may train the next fold of the same run
cropfirst train my_photos --task label --name night --fold 0 --device cuda:0
# One model over four GPUs, see cluster.md
accelerate launch --num_processes 4 --no_python cropfirst train my_photos --task label
""",
        writes=(
            "`WORK/runs/NAME/config.yaml`, `schema.json`, `run.json`, `folds.parquet`: "
            "settings, label schema, versions and folds of the run, written before the first step",
            "`WORK/runs/NAME/fold0/` and so on: checkpoints `best_f1/`, `best_accuracy/`, "
            "`best_loss/` and `last/` (`model.safetensors` and `meta.json`), `history.csv`, "
            "`oof.parquet`, `swapped.parquet`, `metrics.json`; `all/`, written by --all-data, has "
            "only `last/`",
            "`WORK/runs/NAME/oof.parquet` and `metrics.json`: out-of-fold predictions and scores "
            "of all finished folds",
            "`WORK/runs/NAME/tensorboard/`: shown by `tensorboard --logdir WORK/runs`",
        ),
    ),
    "sweep": Notes(
        examples="""
# Two recipes, each with two learning rates, on three tasks: four lines of five folds each
cropfirst sweep contest_data demo_swin demo_convnext --grid optim.lr=1e-3,3e-4 \\
    --task mask --task gender --task age
# One setting of the defaults; every line is compared with the best one
cropfirst sweep my_photos --task label --grid data.augment=none,basic --baseline best
# The effect of the seed alone
cropfirst sweep my_photos my_recipe.yaml --task label --grid seed=0,1,2,3 --name seeds
""",
        writes=(
            "`WORK/sweeps/NAME/LINE/TASK/`: a run for each line and task, as train writes it; "
            "`predict` uses these only with `--runs WORK/sweeps/NAME/LINE`",
            "`WORK/sweeps/NAME/sweep.html`: the table, sortable, in one file",
            "`WORK/sweeps/NAME/sweep.parquet` and `sweep.json`: the same table, and each line's "
            "settings; [what the columns mean](sweeps.md)",
            "for a job that failed: the reason, in its fold's `failed.json`, in the table and at "
            "the end of the output; the exit code is then 1",
        ),
    ),
    "tune": Notes(
        examples="""
# Twenty trials around a recipe, over the default space
cropfirst tune my_photos --task label --config my_recipe.yaml
# Your own search space; 30 trials in all
cropfirst tune my_photos --task label --trials 30 --name wide \\
    --space optim.lr=log:1e-5,1e-2 --space data.batch_size=16,32,64 --space optim.epochs=int:5,20,5
# Train with the settings that were found
cropfirst train my_photos --config work/my_photos/tune/wide/best.yaml
""",
        writes=(
            "`WORK/tune/NAME/best.yaml`: the best trial's settings as a recipe for "
            "`train --config`, with its score",
            "`WORK/tune/NAME/study.db`: the Optuna study, an SQLite file",
            "`WORK/tune/NAME/trials/0000/TASK/`: a run for each trial; only the weights of the "
            "best trial are kept",
        ),
    ),
    "predict": Notes(
        examples="""
# The eval photos of a data set (all photos if it has no eval split), with all its runs
cropfirst predict contest_data
# New photos, with the runs of another data set: detect them first
cropfirst detect new_photos
cropfirst predict new_photos --runs work/my_photos/runs
# All folds with equal weights, whatever ensemble has found
cropfirst predict contest_data --ensemble none
# Single photos: detects, crops and predicts
cropfirst predict portrait.jpg another.png --runs work/my_photos/runs
# Every face of a group photo
cropfirst predict group.jpg --runs work/my_photos/runs --all-faces
# Which classes stay possible at an error rate of 5 %; after calibrate
cropfirst predict contest_data --alpha 0.05
""",
        writes=(
            "`WORK/predict/submission.csv`: the rows of `eval/info.csv` in their order, with one "
            "code each; without that file every photo's path and classes",
            "`WORK/predict/submission-N.csv`: earlier submissions whose predictions differ",
            "`WORK/predict/submissions.csv`: the runs, out-of-fold scores and votes of each file",
            "`WORK/predict/predictions.parquet`: key, image_id, split, status, members (number "
            "of models that predicted the photo), `TASK_probs`, `TASK_pred`, `TASK_prob` (of the "
            "predicted class), code; with `--alpha` also `TASK_possible`, the names of the classes "
            "that stay possible",
            "for single photos: a table on the console; files only with `--out`. With "
            "`--all-faces`, `predictions.parquet` alone, with the columns face and box",
        ),
    ),
    "export": Notes(
        examples="""
# The best fold of a run, for the task mask
cropfirst export work/contest_data/runs/mask --to bundle
# Three tasks, by the votes of three folds
cropfirst export work/contest_data/runs/all_tasks --to bundle --tasks mask,gender,age --members 3
# With a page that runs it in the browser
cropfirst export work/contest_data/runs/mask --to bundle --web page
# On another machine, without the run
cropfirst export --check bundle
""",
        writes=(
            "`DIR/manifest.json`: all settings, and the hash of each file",
            "`DIR/*.onnx`: the networks of the detector, and a classifier for each run",
            "`DIR/MODEL_CARD.md`: data, scores, limits and intended use",
            "`DIR/golden/`: drawn photos and the answers to them",
            "`DIR/requirements.txt`: the packages that run it",
            "with `--web DIR`: `DIR/index.html` and the files that it needs; nothing else in it "
            "may be changed, since it checks them by their hashes",
        ),
    ),
    "ensemble": Notes(
        examples="""
# From the out-of-fold predictions alone: weights, thresholds, temperature
cropfirst ensemble contest_data
# Also mirrored and scaled crops, averaged checkpoints, and voting weights for each mask state
cropfirst ensemble contest_data --tta flip,scale --soup epochs --route age=mask
# Only some runs, and only thresholds; give predict the same --runs
cropfirst ensemble contest_data --runs work/contest_data/runs/age --steps thresholds
cropfirst predict contest_data --runs work/contest_data/runs/age
# One network, the mean of the folds of a run; it has no out-of-fold score
cropfirst ensemble contest_data --soup folds
cropfirst predict contest_data --runs work/contest_data/runs/age/soup/folds
""",
        writes=(
            "`WORK/ensemble/ensemble.json`: the runs, how they vote, and the gain of each step; "
            "`predict` uses it if it is for the same runs",
            "`WORK/ensemble/out-of-fold/`: with `--tta` and `--soup`, repeated predictions",
            "with `--soup epochs`: `WORK/runs/RUN/foldK/soup/`, used by `--checkpoint soup`; "
            "with `--soup folds`: `WORK/runs/RUN/soup/folds/`",
        ),
    ),
    "calibrate": Notes(
        examples="""
# From the out-of-fold predictions alone
cropfirst calibrate work/contest_data/runs
# On people that no run was trained on: detect them first; two error rates, mask alone
cropfirst detect other_people
cropfirst calibrate work/contest_data/runs --data other_people --alpha 0.1 --alpha 0.05 --tasks mask
# Whether the sets keep their promise to further people
cropfirst calibrate work/contest_data/runs --data more_people --check
# One network alone
cropfirst calibrate work/contest_data/runs/age/fold0 --ensemble work/contest_data/fold0.json
""",
        writes=(
            "`WORK/ensemble/ensemble.json`: the limits of each class by error rate, coverage and "
            "share of single answers per class and slice; without an earlier file also the vote: "
            "equal weights and a temperature. See [calibration](calibration.md)",
        ),
    ),
    "eda": Notes(
        examples="""
# Before detect: counts, brightness, near-duplicates; after it, faces too
cropfirst eda contest_data
# With the room that each photo was taken in, if it is known
cropfirst eda contest_data --rooms rooms.csv
# Only counts: no photo is opened
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
# Two of them, in another file, without Grad-CAM
cropfirst report work/contest_data/runs/age work/contest_data/runs/mask --no-cam --out two.html
""",
        writes=(
            "`WORK/report.html`: the page, in one file; it names the parts that are missing, with "
            "the command that makes each",
        ),
    ),
    "evaluate": Notes(
        examples="""
# Out of fold: every photo is predicted by a model that has not seen its person
cropfirst evaluate my_photos
# The predictions for the eval photos, against their true codes
cropfirst evaluate contest_data --answers answers.csv
# Predictions against the labels of the data set, with all tables
cropfirst evaluate my_photos --predictions work/my_photos/predict/predictions.parquet --details
""",
        writes=(
            "`WORK/evaluate/evaluation.json`: macro F1, accuracy, every class, the confusion "
            "matrices, and scores by crop status; out of fold also intervals, slices, calibration "
            "and the most confident mistakes",
            "`WORK/evaluate/confusion_TASK.png`, and out of fold `reliability_TASK.png` and "
            "`mistakes_TASK.png`",
        ),
    ),
    "audit": Notes(
        examples="""
# All runs of a data set, compared on the same changed photos
cropfirst audit work/my_photos/runs
# Two runs, on all photos
cropfirst audit work/my_photos/runs/eyes-photo work/my_photos/runs/eyes-box --limit 0
""",
        writes=(
            "`WORK/audit/audit.json` and `audit.parquet`: accuracy and macro F1 on every variant, "
            "BG-Gap, Grad-CAM and probe, each with its interval; [how to read them](audit.md)",
            "`WORK/audit/variants-TASK.png`: the changed photos; `crops-TASK.png`: the same photos "
            "in each crop set; check these before you rely on the figures",
            "`WORK/audit/gaps.png`: BG-Gap of each run",
            "`WORK/audit/answers/`: the predictions so far, from which an interrupted audit "
            "continues",
        ),
    ),
    "proof": Notes(
        examples="""
# One task on drawn or own photos, with a small network of your choice
cropfirst proof contest_data --task gender --config fast
# The true codes of the eval photos are in a file
cropfirst proof contest_data --task gender --task age --config fast --answers answers.csv
""",
        writes=(
            "`WORK/proof/proof.json` and `proof.png`: the macro F1 of each run out of fold, in "
            "swapped rooms and on the eval photos, with intervals",
            "`WORK/proof/runs/`, `predict/` and `evaluate/`: the runs, their predictions for the "
            "eval photos and the scores of these",
        ),
    ),
    "relabel": Notes(
        examples="""
# All tasks, with the votes of all runs
cropfirst relabel my_photos
# One task of runs that were trained with corrections, whole photos on the page
cropfirst relabel contest_data --task gender --corrections contest --crops photo
""",
        writes=(
            "`WORK/relabel/relabel.html`: the crops with their given and suggested labels, in one "
            "file; you decide by keyboard, and it saves `corrections.csv`",
            "`WORK/relabel/suggested.csv`: corrections that accept every suggestion",
            "`WORK/relabel/label_issues.parquet`: the same as a table, the most certain first",
        ),
    ),
    "verify": Notes(
        examples="""
# Read every row, crop and checkpoint; the exit code is 1 if anything is damaged
cropfirst verify my_photos
# Remove what is damaged, detect and crop it again, and check again
cropfirst verify my_photos --repair
""",
        writes=(
            "nothing, without `--repair`",
            "with `--repair`: the damaged part of the cache, again; folds with damaged checkpoints "
            "are removed, and the same `train` command trains them again",
        ),
    ),
    "compact": Notes(
        examples="""
# After detect --backend: one file of crops instead of one per worker
cropfirst compact my_photos
""",
        writes=("`WORK/cache/crops/NAME/shard-000/`: all crops; the other shards are removed",),
    ),
    "mask": Notes(
        examples="""
# A data set of faces with and without masks from one of bare faces
cropfirst detect my_faces
cropfirst mask my_faces my_masked_faces
cropfirst detect my_masked_faces
cropfirst train my_masked_faces --task mask,gender
""",
        writes=(
            "`OUT/photos/`: the copies under the keys of the photos, with `.jpg` behind them where "
            "the photo is no JPEG; `OUT/labels.csv`: a row for each copy, written last",
        ),
    ),
    "harden": Notes(
        examples="""
# Photos of bare faces, or with a boxes.csv; one part of ten is held out to measure on
cropfirst harden my_photos
# Several data sets, and your own pictures of masks beside the drawn ones
cropfirst harden my_photos more_photos --templates masks --out work/hardened
# All photos, for the final weights: nothing is held out or measured
cropfirst harden my_photos --all-data
# Known faces, five parts, and a setting; see hardening.md
cropfirst harden my_photos --boxes boxes.csv --folds 5 --fold 1 --set paste.incorrect=0.3
""",
        writes=(
            "`OUT/foldN/weights.safetensors` (`OUT/all/` with `--all-data`): for `detect "
            "--weights`; `card.json`: the data and settings that they were made from",
            "`OUT/foldN/recall.json`, `recall.png`: faces found before and after, on held-out "
            "photos with boxes; `recall-pasted.json`, `recall-pasted.png`: on those without "
            "boxes, with masks pasted on them",
            "`OUT/foldN/state.safetensors`: the state from which an interrupted run continues; "
            "`OUT/teacher-*.parquet`: the output of the detector before, for every photo",
            "`OUT/folds.json`: the photos with boxes that each fold's weights were not trained on",
        ),
    ),
    "watch": Notes(
        examples="""
# A video, or one camera's pictures in a folder
cropfirst watch entrance.mp4 --bundle my_bundle
# The first camera of this machine, until Ctrl-C; events are added to a file
cropfirst watch 0 --bundle my_bundle --out events.jsonl
# A camera on the network; each event is also sent to a program of yours
cropfirst watch rtsp://camera.example/live --bundle my_bundle --webhook http://127.0.0.1:9000/
# Boxes and states drawn on the video; crops of doubtful people for two weeks, to label them
cropfirst watch entrance.mp4 --bundle my_bundle --video seen.mp4 --keep-doubtful doubtful --days 14
""",
        writes=(
            "events as lines of JSON to the console, or added to `--out`; a summary at the end; "
            "[what they mean](door.md#events)",
            "only where asked for: `--video`, and with `--keep-doubtful DIR` the crops and "
            "`DIR/labels.csv`, a data set of the layout `csv` whose label is still empty",
        ),
    ),
    "serve": Notes(
        examples="""
# For this machine alone, on http://127.0.0.1:8000/
cropfirst serve my_bundle
# For others, who need a key from the file
cropfirst serve my_bundle --host 192.0.2.7 --api-key-file keys.txt --tls-cert c.pem --tls-key k.pem
# Behind a proxy with TLS that passes the name on
cropfirst serve my_bundle --allow-host door.example
# Also a page to label what watch --keep-doubtful has kept, on http://127.0.0.1:8000/review
cropfirst serve my_bundle --review doubtful
""",
        writes=(
            "nothing: uploads stay in memory",
            "with `--review FOLDER`: the labels, in its `labels.csv`; "
            "[what else happens there](door.md#labels-for-doubtful-people)",
        ),
    ),
    "demo": Notes(
        examples="""
# What `make demo` runs
cropfirst demo --work work/demo
""",
        writes=(
            "`WORK/data/`: the drawn photographs in the contest's layout",
            "`WORK/cache/`, `WORK/detect/`, `WORK/runs/`, `WORK/predict/`, `WORK/evaluate/`: the "
            "output of the other commands",
        ),
    ),
}


def page() -> str:
    """Return the text of docs/commands.md.

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
