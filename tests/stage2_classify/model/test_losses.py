"""Losses against plain definitions, and ordinal regression against loops over the papers' words."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from cropfirst.stage2_classify.metrics.scores import macro_f1
from cropfirst.stage2_classify.model.losses import class_weights, cross_entropy, soft_macro_f1_loss
from cropfirst.stage2_classify.model.ordinal import coral_loss, coral_probs, corn_loss, corn_probs

LABELS = torch.tensor([0, 3, 1, 2, 3, 0])


def logits(width: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(6, width, generator=torch.Generator().manual_seed(seed))


def one_hot(labels: torch.Tensor = LABELS, n: int = 4) -> torch.Tensor:
    return F.one_hot(labels, n).float()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing: float) -> None:
    got = cross_entropy(logits(4), one_hot(), label_smoothing=smoothing)
    assert got == pytest.approx(
        float(F.cross_entropy(logits(4), LABELS, label_smoothing=smoothing)), rel=1e-6
    )


def test_weights_are_torchs_class_weights() -> None:
    by_class = torch.tensor([0.5, 2.0, 1.0, 3.0])
    got = cross_entropy(logits(4), one_hot(), weights=by_class[LABELS])
    assert got == pytest.approx(float(F.cross_entropy(logits(4), LABELS, by_class)), rel=1e-6)


def test_half_precision_logits_are_summed_in_single() -> None:
    assert cross_entropy(logits(4).bfloat16(), one_hot()).dtype == torch.float32


def test_focal_loss_is_the_papers_formula() -> None:
    p = logits(4).softmax(1)[torch.arange(6), LABELS]
    want = (-((1 - p) ** 2) * p.log()).mean()
    assert cross_entropy(logits(4), one_hot(), gamma=2.0) == pytest.approx(float(want), rel=1e-5)
    sure = torch.tensor([[50.0, 0.0]], requires_grad=True)
    cross_entropy(sure, torch.tensor([[1.0, 0.0]]), gamma=0.5).backward()
    assert sure.grad is not None and sure.grad.isfinite().all()


def test_soft_f1_of_certain_answers_is_macro_f1() -> None:
    answers = torch.tensor([0, 3, 2, 2, 1, 0])
    want = 1 - macro_f1(LABELS, answers, 4)
    assert soft_macro_f1_loss(one_hot(answers), one_hot()) == pytest.approx(want, rel=1e-5)
    # A class that the batch has no target of is not counted.
    few = one_hot(torch.tensor([0, 0, 1, 1, 1, 1]))
    assert soft_macro_f1_loss(few, few) == pytest.approx(0.0, abs=1e-6)


def test_class_weights_are_those_of_the_formulas() -> None:
    counts = [100, 10, 0, 1]
    assert class_weights(counts, "none").tolist() == [1, 1, 1, 1]
    inverse = class_weights(counts, "inverse")
    assert inverse[2] == 0 and inverse.sum() == pytest.approx(3)
    assert (inverse[1] / inverse[0]) == pytest.approx(10) and inverse[3] / inverse[
        1
    ] == pytest.approx(10)
    effective = class_weights(counts, "effective", beta=0.9)
    want = ((1 - 0.9**100) / (1 - 0.9), 1.0)
    assert effective[3] / effective[0] == pytest.approx(want[0] / want[1], rel=1e-5)
    assert class_weights(counts, "effective", beta=0.0)[[0, 1, 3]].tolist() == [1, 1, 1]


def test_coral_loss_is_the_papers_sum() -> None:
    out = logits(3)
    total = 0.0
    for row, label in enumerate(LABELS.tolist()):
        for k in range(3):
            p = 1 / (1 + math.exp(-float(out[row, k])))
            total -= math.log(p if label > k else 1 - p)
    assert coral_loss(out, one_hot()) == pytest.approx(total / 6, rel=1e-5)


def test_corn_loss_is_the_papers_mean_over_conditional_subsets() -> None:
    out = logits(3)
    total, n = 0.0, 0
    for k in range(3):
        for row, label in enumerate(LABELS.tolist()):
            if label > k - 1:  # the subset of task k
                p = 1 / (1 + math.exp(-float(out[row, k])))
                total -= math.log(p if label > k else 1 - p)
                n += 1
    assert corn_loss(out, one_hot()) == pytest.approx(total / n, rel=1e-5)


@pytest.mark.parametrize("loss", [coral_loss, corn_loss])
def test_a_weight_of_two_is_a_crop_twice(loss: type) -> None:
    weights = torch.tensor([2.0, 1, 1, 1, 1, 1])
    twice = torch.tensor([0, *range(6)])
    got = loss(logits(3), one_hot(), weights)
    assert got == pytest.approx(float(loss(logits(3)[twice], one_hot()[twice])), rel=1e-5)


@pytest.mark.parametrize(("loss", "probs"), [(coral_loss, coral_probs), (corn_loss, corn_probs)])
def test_ordinal_losses_are_least_where_the_probabilities_are_the_mixed_targets(
    loss: type, probs: type
) -> None:
    soft = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    out = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.LBFGS([out], max_iter=100, tolerance_grad=1e-9)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value: torch.Tensor = loss(out, soft)
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(probs(out).detach(), soft, atol=1e-3, rtol=0)


@pytest.mark.parametrize("probs", [coral_probs, corn_probs])
def test_ordinal_probabilities_sum_to_one_whatever_the_logits(probs: type) -> None:
    table = probs(5 * logits(3))
    assert table.shape == (6, 4) and (table >= 0).all()
    torch.testing.assert_close(table.sum(1), torch.ones(6))
