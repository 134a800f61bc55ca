"""Every kind of head: what it learns from, and that it ends in probabilities of the classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cropfirst.configs import ConfigError, load_config
from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import LossConfig, TaskHead, TrainConfig
from cropfirst.stage2_classify.labels.schema import LabelSchema, load_schema
from cropfirst.stage2_classify.labels.task import LabelError
from cropfirst.stage2_classify.model.criterion import Criterion, build_criterion
from cropfirst.stage2_classify.model.head_spec import HeadSpec
from cropfirst.stage2_classify.model.heads import Head
from cropfirst.stage2_classify.model.targets import TargetSpace, build_target_space

AGES = list(range(18, 61))
ELEVEN = [19, 20, 21, 25, 30, 49, 53, 56, 58, 60]
KINDS: dict[str, dict[str, Any]] = {
    "classes": {},
    "fine bins": {"bins": ELEVEN},
    "coral": {"kind": "coral"},
    "coral on fine bins": {"kind": "coral", "bins": ELEVEN},
    "corn": {"kind": "corn"},
    "corn on fine bins": {"kind": "corn", "bins": ELEVEN},
    "regression": {"kind": "regression"},
    "classes and error": {"mse": 0.1},
    "fine bins and error": {"mse": 0.1, "bins": ELEVEN},
}


def space_of(settings: dict[str, Any], ages: list[Any] | None = None) -> TargetSpace:
    facts = [(f"{age}.jpg", {"age": age}) for age in ages or AGES]
    return build_target_space("age", load_schema(), TaskHead(**settings), facts=facts)


def classes_of(ages: list[int]) -> torch.Tensor:
    return torch.tensor([0 if age < 30 else 1 if age < 60 else 2 for age in ages])


def targets_of(space: TargetSpace, ages: list[int]) -> torch.Tensor:
    return torch.tensor([space.encode(load_schema(), {"age": age}, where="x") for age in ages])


def loss_of(head: Head, space: TargetSpace, **settings: Any) -> Criterion:
    counts = {"age": [12, 30, 1]}
    return build_criterion({"age": head}, {"age": space}, LossConfig(**settings), counts=counts)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_learns_age_bands_from_a_number(kind: str) -> None:
    space = space_of(KINDS[kind])
    torch.manual_seed(0)
    head = Head(space.head, features=2, hidden=16)
    ages = torch.tensor(AGES).float()
    features = torch.stack([(ages - 40) / 12, ((ages - 40) / 12) ** 2], dim=1)
    criterion = loss_of(head, space, label_smoothing=0).train()
    targets = targets_of(space, AGES)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(800):
        optimizer.zero_grad()
        criterion({"age": head(features)}, {"age": targets}).backward()
        optimizer.step()
    probs = head.probs(head(features))
    assert probs.shape == (43, 3) and (probs >= 0).all()
    torch.testing.assert_close(probs.sum(1), torch.ones(43))
    assert (probs.argmax(1) == classes_of(AGES)).float().mean() > 0.9
    if space.values:
        assert (head.number(head(features)) - ages).abs().mean() < 3


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_targets_are_learned_from_and_metas_come_back(kind: str) -> None:
    space = space_of(KINDS[kind])
    head = Head(space.head, features=4, batch_norm=True)
    assert HeadSpec.from_dict(space.head.to_dict()) == space.head
    outputs = {"age": head(torch.randn(6, 4))}
    assert outputs["age"].shape == (6, space.head.width)
    criterion = loss_of(head, space)
    targets = targets_of(space, [18, 29, 30, 45, 59, 60])
    hard = criterion(outputs, {"age": targets}).item()
    soft = F.one_hot(targets, criterion.losses[0].n_targets).float()
    assert criterion(outputs, {"age": soft}).item() == pytest.approx(hard, rel=1e-5)
    mixed = 0.5 * soft + 0.5 * soft.flip(0)
    criterion(outputs, {"age": mixed}).backward()
    assert criterion.classes({"age": targets})["age"].tolist() == [0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    "terms", [{"ce": 1.0}, {"f1": 0.4, "focal": 0.6}, {"f1": 1.0}, {"ce": 1.0, "f1": 0.5}]
)
@pytest.mark.parametrize("weights", ["none", "inverse", "effective"])
def test_terms_add_up(terms: dict[str, float], weights: str) -> None:
    space = space_of({})
    head = Head(space.head, features=4)
    outputs = {"age": torch.randn(6, 3, generator=torch.Generator().manual_seed(1))}
    targets = {"age": torch.tensor([0, 1, 2, 1, 1, 0])}

    def value(terms: dict[str, float]) -> float:
        return float(loss_of(head, space, terms=terms, class_weights=weights)(outputs, targets))

    assert value(terms) == pytest.approx(sum(w * value({t: 1.0}) for t, w in terms.items()))


def test_crops_without_a_target_count_for_nothing() -> None:
    for settings in KINDS.values():
        space = space_of(settings)
        head = Head(space.head, features=4).eval()
        out = head(torch.randn(5, 4)).detach()
        targets = targets_of(space, [20, 40, 60, 25, 50])
        known = torch.tensor([True, True, False, True, False])
        for terms in ({"ce": 1.0}, {"f1": 1.0}):
            criterion = loss_of(head, space, terms=terms)
            part = criterion({"age": out[known]}, {"age": targets[known]})
            whole = criterion({"age": out}, {"age": torch.where(known, targets, -1)})
            assert float(whole) == pytest.approx(float(part), rel=1e-4)
            assert float(criterion({"age": out}, {"age": torch.full((5,), -1)}).detach()) <= 1.0


def test_label_smoothing_is_for_training_alone() -> None:
    space = space_of({})
    criterion = loss_of(Head(space.head, features=4), space, label_smoothing=0.3)
    outputs, targets = {"age": torch.randn(4, 3)}, {"age": torch.tensor([0, 1, 2, 1])}
    plain = F.cross_entropy(outputs["age"], targets["age"])
    assert criterion.eval()(outputs, targets) == pytest.approx(float(plain), rel=1e-5)
    assert criterion.train()(outputs, targets) != pytest.approx(float(plain), rel=1e-3)


def test_two_layer_heads_have_a_hidden_layer_with_norm_and_dropout() -> None:
    head = Head(HeadSpec.plain(3), features=8, hidden=5, batch_norm=True, drop_rate=0.5)
    assert [type(layer).__name__ for layer in head.hidden] == [
        "Linear", "BatchNorm1d", "ReLU", "Dropout",
    ]  # fmt: skip
    assert head.out.weight.shape == (3, 5)
    assert head(torch.randn(2, 8)).shape == (2, 3)


def test_a_predicted_number_is_spread_over_the_bands() -> None:
    spec = HeadSpec((0, 1, 2), "regression", edges=(30, 60), centre=40, scale=10, spread=5)
    head = Head(spec, features=1)
    # 40, 60 and 100 years, of which 60 is the edge itself.
    probs = head.probs(torch.tensor([[0.0], [2.0], [6.0]]))
    assert probs.argmax(1).tolist()[0] == 1 and probs[2, 2] > 0.999
    assert probs[1].tolist() == pytest.approx([0, 0.5, 0.5], abs=1e-6)
    assert probs[0, 0] == pytest.approx(0.02275, abs=1e-5)  # two standard deviations below


def test_eleven_bins_are_those_asked_for() -> None:
    space = space_of({"bins": ELEVEN})
    assert space.head.class_of == (0,) * 5 + (1,) * 5 + (2,)
    assert targets_of(space, [18, 19, 24, 29, 30, 48, 49, 59, 60]).tolist() == [
        0, 1, 3, 4, 5, 5, 6, 9, 10,
    ]  # fmt: skip


def test_ranges_are_learned_as_their_middle() -> None:
    space = space_of({"kind": "regression"}, ["20-29", "50-59", "more than 70", 33])
    assert space.values == (24.5, 33.0, 54.5, 71.0)


SIZES = LabelSchema.from_dict(
    {
        "tasks": {
            "size": {"classes": ["s", "m", "l"], "ordered": True},
            "hue": {"classes": ["r", "g"]},
        }
    }
)


def test_classes_that_rise_may_be_ranks() -> None:
    assert LabelSchema.from_dict(SIZES.to_dict()) == SIZES
    space = build_target_space("size", SIZES, TaskHead(kind="corn"), facts=[])
    assert (space.head.kind, space.head.width) == ("corn", 2)


@pytest.mark.parametrize(
    ("schema", "task", "head", "message"),
    [
        (SIZES, "hue", {"kind": "coral"}, r"hue has none \(r, g\): use kind classes, or.*ordered"),
        (SIZES, "size", {"kind": "regression"}, r"size \(s, m, l\) have no bins"),
        (SIZES, "size", {"mse": 0.1}, "expects a task of numbers"),
        (None, "mask", {"kind": "corn"}, "mask has none"),
        (None, "class18", {"kind": "coral"}, "no order of its own.*--task mask,gender,age"),
        (None, "age", {"bins": [25, 60]}, "lacks 30: wanted rising edges"),
        (None, "age", {"bins": [60, 30]}, "does not rise"),
    ],
)
def test_heads_that_a_task_does_not_allow_are_refused(
    schema: LabelSchema | None, task: str, head: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        build_target_space(task, schema or load_schema(), TaskHead(**head), facts=[])


def test_facts_too_vague_for_the_head_are_refused() -> None:
    with pytest.raises(LabelError, match=r"more than one of the bins of head\.tasks\.age"):
        space_of({"bins": ELEVEN}).encode(load_schema(), {"age": "20-29"}, where="a.jpg")
    with pytest.raises(LabelError, match="more than one of the bins"):
        space_of({"bins": ELEVEN, "mse": 0.1}, ["50-59", 20])
    schema = load_schema().to_dict()
    schema["tasks"]["age"]["aliases"] = {"young": "<30"}
    facts = [("a.jpg", {"age": "young"})]
    with pytest.raises(LabelError, match=r"a\.jpg: task age is learned as a number.*a word"):
        build_target_space(
            "age", LabelSchema.from_dict(schema), TaskHead(kind="regression"), facts=facts
        )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("head.tasks.mask.kind=coral", "--task is age, which has no 'mask'"),
        ("head.tasks.age.kind=ranks", "'classes', 'coral', 'corn' or 'regression'"),
        ("head.tasks.age={kind: corn, mse: 0.1}", "mse goes with kind classes"),
        ("head.tasks.age={kind: regression, bins: [30, 60]}", "leave bins out"),
        ("loss.terms={}", "expects weights above 0"),
        ("loss.terms={ce: 0}", "expects weights above 0"),
        ("loss.terms={dice: 1}", "'ce', 'focal' or 'f1'"),
        ("loss.class_weights=square", "'none', 'inverse' or 'effective'"),
        ("loss.effective_beta=1", "less than 1"),
        ("where={age: <30}", "is what is trained"),
    ],
)
def test_settings_that_cannot_be_are_explained(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(TrainConfig, overrides=["task=age", override])


def test_ordinal_heads_have_no_focal_loss() -> None:
    overrides = ["task=age", "head.tasks.age.kind=coral", "loss.terms={f1: 0.4, focal: 0.6}"]
    with pytest.raises(ConfigError, match="kind=coral has no focal loss: take ce or f1"):
        load_config(TrainConfig, overrides=overrides)
