"""Networks in 8-bit integers: static quantisation of an ONNX file, and the crops that judge it.

Scales are per channel of the weights, and of the activations as real crops give them. (Scales that
are found for each input anew, "dynamic" ones, ruin convolutions.)
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cropfirst.core.errors import BundleError
from cropfirst.core.probabilities import decide
from cropfirst.core.spread import spread
from cropfirst.door.sets import SetTable
from cropfirst.stage2_classify.calibrate.coverage import fit_table
from cropfirst.stage2_classify.calibrate.task_answers import TaskAnswers
from cropfirst.stage2_classify.export.nets import RunNets
from cropfirst.stage2_classify.metrics.intervals import number_people
from cropfirst.stage2_classify.metrics.scores import macro_f1
from cropfirst.stage2_classify.runs.oof_predictions import read_oof_runs, read_people
from cropfirst.stage2_classify.runs.parquet import read_parquet
from cropfirst.stage2_classify.runs.run_paths import is_fold

Ints = npt.NDArray[np.integer]

CALIBRATION_CROPS, JUDGING_CROPS = 200, 1000
MOST_LOST, LEAST_EQUAL = 0.005, 0.99
"""Largest fall of macro F1, and least share of equal classes, with which int8 is used."""
QUANTIZED = ("Conv", "Gemm", "MatMul")
"""Operators that run in integers."""


@dataclass(frozen=True)
class JudgingCrops:
    """Crops with labels, held out from the networks where the networks are of one fold."""

    keys: tuple[str, ...]
    targets: Mapping[str, Ints]
    """Task -> (N,) class numbers."""
    people: Ints
    """(N,) numbers of persons."""
    held_out: bool


@dataclass(frozen=True)
class Int8Score:
    """Scores of one task with floats and with integers, on the same crops."""

    task: str
    n_crops: int
    macro_f1: float
    int8_macro_f1: float
    equal: float
    """Share of the crops that both give the same class."""

    @property
    def is_good(self) -> bool:
        """Whether the integers may be used."""
        lost = self.macro_f1 - self.int8_macro_f1
        return lost <= MOST_LOST and self.equal >= LEAST_EQUAL

    def __str__(self) -> str:
        return (
            f"{self.task}: macro F1 {self.macro_f1:.4f} with floats, {self.int8_macro_f1:.4f} with "
            f"int8, the same class for {self.equal:.2%} of {self.n_crops} crops"
        )


def find_judging_crops(nets: Sequence[RunNets], tasks: Sequence[str]) -> JudgingCrops:
    """Find the crops that judge: those held out from a fold, else those of all folds.

    Raises:
        TrainError: the runs have no out-of-fold predictions.
    """
    _, oofs, _ = read_oof_runs([each.run for each in nets])
    first, people = oofs[0], read_people([nets[0].run])
    folder = nets[0].folders[0].parent
    one = len(nets) == 1 and len(nets[0].folders) == 1 and is_fold(folder) and folder.name != "all"
    folds = dict(read_parquet(nets[0].run / "oof.parquet").select("key", "fold").iter_rows())
    rows = [
        row for row, key in enumerate(first.keys)
        if not one or f"fold{folds[key]}" == folder.resolve().name
    ]  # fmt: skip
    rows = spread(rows, JUDGING_CROPS)
    keys = tuple(first.keys[row] for row in rows)
    targets = {task: first.targets[task][rows] for task in tasks if task in first.targets}
    return JudgingCrops(keys, targets, number_people(keys, people), one)


def quantize(raw: bytes, inputs: Sequence[np.ndarray]) -> bytes:
    """Return a classifier's ONNX file with 8-bit weights and activations.

    Args:
        raw: the file with floats.
        inputs: (N, 3, S, S) float32 batches that the scales of the activations are taken from.

    Raises:
        BundleError: ONNX Runtime cannot quantise it.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"crops": batch}

    logger = logging.getLogger()
    level = logger.level
    with tempfile.TemporaryDirectory(prefix="cropfirst-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        whole, prepared, small = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
        whole.write_bytes(raw)
        try:
            quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
            # 7 bits of the weights: with 8, processors without VNNI overflow.
            quantize_static(
                str(prepared), str(small), Reader(), quant_format=QuantFormat.QDQ,
                per_channel=True, reduce_range=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, op_types_to_quantize=list(QUANTIZED),
            )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"--int8: this network cannot be quantised: {error}") from error
        finally:
            logger.setLevel(level)
        return small.read_bytes()


def score_int8(
    crops: JudgingCrops,
    floats: Mapping[str, np.ndarray],
    integers: Mapping[str, np.ndarray],
    offsets: Mapping[str, tuple[float, ...]],
) -> list[Int8Score]:
    """Compare the (N, C) probabilities of each task with floats and with integers.

    Raises:
        BundleError: too much is lost; the message has the figures.
    """
    scores = []
    for task, targets in crops.targets.items():
        size = floats[task].shape[1]
        one, other = (decide(each[task], offsets[task]) for each in (floats, integers))
        f1, small = (macro_f1(targets, each, size) for each in (one, other))
        scores.append(Int8Score(task, len(targets), f1, small, float((one == other).mean())))
    if not all(each.is_good for each in scores):
        raise BundleError(
            f"--int8 loses too much: {'; '.join(map(str, scores))}. Wanted: macro F1 falls by "
            f"{MOST_LOST} or less, and {LEAST_EQUAL:.0%} or more of the classes stay. Leave out "
            "--int8"
        )
    return scores


def fit_sets(
    crops: JudgingCrops, task: str, classes: tuple[str, ...], probs: np.ndarray, alpha: float
) -> SetTable | None:
    """Return the limits of the sets that (N, C) probabilities give; None if too few people do.

    Only crops that were held out from the networks can calibrate them.
    """
    if not crops.held_out or task not in crops.targets:
        return None
    answers = TaskAnswers(task, classes, probs, crops.targets[task], crops.people, {})
    if min(answers.count_people().values()) == 0:
        return None
    table = fit_table(answers, [alpha])
    return table if table.smallest_alpha <= alpha else None
