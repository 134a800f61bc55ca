"""8-bit networks: nearly the same answers, and a refusal with figures where too much is lost."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from cropfirst.core.errors import BundleError
from cropfirst.core.onnx_export import to_onnx
from cropfirst.stage2_classify.export.int8 import (
    JudgingCrops,
    fit_sets,
    quantize,
    score_int8,
)

N = 200


def crops(*, held_out: bool = True) -> JudgingCrops:
    """200 crops of 50 people, the class of each person in turn."""
    targets = {"mask": np.arange(N) % 2}
    return JudgingCrops(tuple(map(str, range(N))), targets, np.arange(N) // 4, held_out)


def probs(targets: np.ndarray, *, wrong: int) -> np.ndarray:
    """Probabilities of 0.9 for the true class, but for the first `wrong` crops."""
    table = np.where(np.eye(2)[targets] > 0, 0.9, 0.1).astype(np.float32)
    table[:wrong] = table[:wrong, ::-1]
    return table


@pytest.mark.slow
def test_a_quantised_network_is_small_and_answers_alike() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3), nn.LogSoftmax(1),
    ).eval()  # fmt: skip
    raw = to_onnx(net, (3, 32, 32), input_name="crops", output_names=["mask"], free={})
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(1, 3, 32, 32)).astype(np.float32) for _ in range(20)]
    small = quantize(raw, batches)
    assert len(small) < len(raw) / 2
    found = [
        ort.InferenceSession(each, providers=["CPUExecutionProvider"]).run(
            None, {"crops": np.concatenate(batches)}
        )[0]
        for each in (raw, small)
    ]
    assert np.abs(np.exp(found[0]) - np.exp(found[1])).max() < 0.02


def test_int8_is_refused_with_figures_where_it_loses_too_much() -> None:
    own = crops()
    targets = own.targets["mask"]
    floats = {"mask": probs(targets, wrong=20)}
    (score,) = score_int8(own, floats, {"mask": probs(targets, wrong=19)}, {"mask": ()})
    assert score.equal == 0.995 and score.macro_f1 < score.int8_macro_f1
    for wrong, text in ((16, "98.00%"), (24, "98.00%"), (40, "90.00%")):
        with pytest.raises(BundleError, match=text):
            score_int8(own, floats, {"mask": probs(targets, wrong=wrong)}, {"mask": ()})


def test_sets_are_fitted_again_only_on_people_held_out() -> None:
    own = crops()
    table = probs(own.targets["mask"], wrong=10)
    found = fit_sets(own, "mask", ("a", "b"), table, 0.1)
    assert found is not None and list(found.classes) == ["a", "b"]
    assert fit_sets(own, "mask", ("a", "b"), table, 0.001) is None
    assert fit_sets(crops(held_out=False), "mask", ("a", "b"), table, 0.1) is None
