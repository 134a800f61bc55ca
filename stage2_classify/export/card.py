"""The part of a bundle's card that comes from its runs: data, scores, limits and worst slices.

Words what evaluation has found, as the report does; predicts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cropfirst.cache import CropSet
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.datasets import PhotoSet
from cropfirst.stage2_classify.evaluate.error_analysis import analyze_all
from cropfirst.stage2_classify.evaluate.score_runs import score_runs
from cropfirst.stage2_classify.evaluate.task_report import headlines
from cropfirst.stage2_classify.export.nets import PERSONAL
from cropfirst.stage2_classify.report.card import Section, model_card
from cropfirst.stage2_classify.report.run_info import RunInfo, read_optional, read_run
from cropfirst.stage2_classify.runs.baselines import choose_voters
from cropfirst.stage2_classify.runs.oof_predictions import read_oof_runs, read_people
from cropfirst.stage2_classify.runs.swapped_scores import UNCHECKED


def run_sections(
    runs: Sequence[Path], tasks: Sequence[str], *, photos: PhotoSet, crops: CropSet, work: Path
) -> list[Section]:
    """Return the sections of the card on the runs' out-of-fold predictions.

    Args:
        runs: run folders.
        tasks: tasks of the bundle.
        work: folder of the results, where audit.json is looked for.
    """
    try:
        schema, oofs, notes = read_oof_runs(runs)
    except TrainError as error:
        return [("Scores", [f"Unknown: nobody was held out from these networks ({error})."])]
    voters = choose_voters(oofs, runs, schema, option="")
    folders = [oof.path for oof in oofs if oof.path]
    people = read_people(folders)
    reports, answers = score_runs(oofs, schema, voters, people, notes)
    reports = [each for each in reports if each.task in tasks]
    answers = {name: each for name, each in answers.items() if name in tasks}
    analyses = analyze_all(answers, schema, people=people, photos=photos, crops=crops)
    infos = [read_run(oof, schema, people, voters) for oof in oofs]
    keys = [sample.key for sample in photos.samples]
    counts = crops.manifest.read(keys).group_by("status").len().sort("status")
    audit, _ = read_optional(work / "audit" / "audit.json", "audit")
    card = model_card(
        photos, infos, headlines(reports), analyses,
        statuses=dict(counts.iter_rows()), audit=audit,
    )  # fmt: skip
    return [("Scores", [line for info in infos for line in _scores(info, tasks)]), *card]


def _scores(run: RunInfo, tasks: Sequence[str]) -> list[str]:
    """Return a line for each task with a run's score out of fold and in swapped rooms."""
    lines = []
    for task in tasks:
        if task not in run.scores:
            continue
        rooms = UNCHECKED
        if task in run.swapped:
            rooms = f"{run.swapped[task]} in swapped rooms, the score to expect in a new place"
        lines.append(
            f"{task}: macro F1 {run.scores[task]} out of fold ({run.name}); {rooms}. The most "
            f"frequent class alone would score {run.majority.get(task, '?')}."
        )
    return lines


def personal_section(tasks: Sequence[str]) -> list[Section]:
    """Return the section on sorting people by what they are; empty if no task does."""
    found = [name for name in tasks if name.lower() in PERSONAL]
    if not found:
        return []
    return [
        (
            "This bundle sorts people",
            [
                f"It answers {' and '.join(found)}, which the export was asked for by name. That "
                "is biometric categorisation of people.",
                "In the European Union, people must be told where such a system is used (AI Act, "
                "Regulation 2024/1689, Article 50), and categorising by sensitive or protected "
                "attributes is a high-risk use (Annex III). Whoever puts it to use is responsible.",
                "What a face looks like is not what a person is: see Intended use. No bundle has "
                "the task race.",
            ],
        )
    ]


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the card as a Markdown page."""
    parts = [f"# {title}"]
    for name, lines in sections:
        parts += [f"## {name}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"
