"""Learning rate, weight decay and the optimizer's state."""

from __future__ import annotations

import itertools
import json
from typing import get_args

import pytest
import torch

from cropfirst.core.errors import TrainError
from cropfirst.stage2_classify.config import OptimConfig
from cropfirst.stage2_classify.model.models import Classifier, build_classifier
from cropfirst.stage2_classify.train.optim import (
    Schedule,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_frozen,
)


def build() -> Classifier:
    torch.manual_seed(0)
    model = build_classifier("test_vit", {"mask": 3}, image_size=32)
    model.set_channels_last(True)
    return model


def step(model: Classifier, optimizer: torch.optim.Optimizer, *, seed: int) -> None:
    torch.manual_seed(seed)
    logits = model(torch.randn(4, 3, 32, 32))["mask"]
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()


def rates(settings: OptimConfig, *, updates_per_epoch: int = 10) -> list[float]:
    """The learning rate of every update."""
    model = build()
    schedule = Schedule(
        build_optimizer(model, settings), settings, updates_per_epoch=updates_per_epoch
    )
    found = []
    for update in range(settings.epochs * updates_per_epoch):
        schedule.set_update(update)
        found.append(schedule.lr)
    return found


def test_the_learning_rate_warms_up_linearly_and_ends_near_zero() -> None:
    found = rates(OptimConfig(lr=1.0, warmup_epochs=1, epochs=10))
    assert found[:11] == pytest.approx([0.1 + 0.09 * i for i in range(11)])
    assert found[55] == pytest.approx(0.5)
    assert found[10:] == sorted(found[10:], reverse=True)
    assert 0 < found[-1] < 1e-3


def test_no_warmup_starts_at_the_top_and_min_lr_is_the_bottom() -> None:
    found = rates(OptimConfig(lr=0.3, warmup_epochs=0, min_lr=0.1))
    assert found[0] == pytest.approx(0.3)
    assert found[-1] == pytest.approx(0.1, abs=1e-4)


def test_steps_fall_every_so_many_epochs() -> None:
    settings = OptimConfig(
        lr=1.0, schedule="step", warmup_epochs=1, decay_epochs=2, decay_rate=0.1, epochs=6
    )
    assert rates(settings)[10::10] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert rates(OptimConfig(lr=1.0, schedule="constant", warmup_epochs=0)) == [1.0] * 100


def test_plateau_waits_then_falls_and_goes_on_after_a_kill() -> None:
    settings = OptimConfig(
        lr=1.0, schedule="plateau", patience=1, decay_rate=0.5, min_lr=0.2, warmup_epochs=0
    )

    def make() -> Schedule:
        optimizer = build_optimizer(build(), settings)
        return Schedule(optimizer, settings, updates_per_epoch=1)

    def lr(schedule: Schedule) -> float:
        schedule.set_update(0)
        return schedule.lr

    scores = [0.5, 0.6, 0.6, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    one, seen = make(), []
    for score in scores:
        one.end_epoch(score)
        seen.append(lr(one))
    assert seen == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    again = make()
    for number, score in enumerate(scores):
        fresh = make()
        fresh.load_state(json.loads(json.dumps(again.state(), allow_nan=False)))
        again = fresh
        again.end_epoch(score)
        assert lr(again) == seen[number]


def test_lower_layers_learn_slower_and_heads_at_full_rate() -> None:
    model = build()
    settings = OptimConfig(lr=1.0, warmup_epochs=0, layer_decay=0.5, weight_decay=0.1)
    optimizer = build_optimizer(model, settings)
    Schedule(optimizer, settings, updates_per_epoch=5).set_update(0)
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    found = {name: rate[id(parameter)] for name, parameter in model.named_parameters()}
    assert len(rate) == len(found)
    assert found["heads.0.out.weight"] == 1.0
    depth = len(model.backbone.blocks)  # type: ignore[arg-type]
    blocks = [found[f"backbone.blocks.{i}.mlp.fc1.weight"] for i in range(depth)]
    assert [high / low for low, high in itertools.pairwise(blocks)] == [2.0] * (depth - 1)
    assert blocks[-1] >= 0.5
    assert found["backbone.patch_embed.proj.weight"] == blocks[0] / 2


def test_a_backbone_without_known_layers_is_refused_layer_decay() -> None:
    model = build()
    model.backbone = torch.nn.Linear(3, 3)
    with pytest.raises(TrainError, match="does not say which layers it has"):
        build_optimizer(model, OptimConfig(layer_decay=0.5))


def test_a_frozen_backbone_stays_and_its_statistics_too() -> None:
    torch.manual_seed(0)
    model = build_classifier("test_resnet", {"mask": 3}, image_size=32)
    optimizer = build_optimizer(model, OptimConfig(lr=0.1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    set_frozen(model, True)
    step(model, optimizer, seed=1)
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"heads.0.out.weight", "heads.0.out.bias"}
    model.train()
    set_frozen(model, False)
    step(model, optimizer, seed=2)
    after = model.state_dict()
    for name in ("backbone.conv1.0.weight", "backbone.bn1.running_mean"):
        assert not torch.equal(after[name], before[name]), name


def test_norms_biases_and_position_embeddings_do_not_decay() -> None:
    model = build()
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.1))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    rates = {name: decay[id(parameter)] for name, parameter in model.named_parameters()}
    assert len(rates) == len(decay)
    assert rates["heads.0.out.weight"] == 0.1
    assert rates["backbone.blocks.0.attn.qkv.weight"] == 0.1
    for name in ("heads.0.out.bias", "backbone.blocks.0.norm1.weight", "backbone.pos_embed"):
        assert rates[name] == 0.0, name


@pytest.mark.parametrize("name", get_args(OptimConfig.model_fields["optimizer"].annotation))
def test_the_state_comes_back_to_the_last_bit(name: str) -> None:
    model, twin = build(), build()
    settings = OptimConfig.model_validate({"optimizer": name, "lr": 1e-2, "weight_decay": 0.1})
    optimizers = [build_optimizer(each, settings) for each in (model, twin)]
    for seed in (1, 2):
        step(model, optimizers[0], seed=seed)
    twin.load_state_dict(model.state_dict())
    load_optimizer_tensors(optimizers[1], optimizer_tensors(optimizers[0]))
    step(model, optimizers[0], seed=3)
    step(twin, optimizers[1], seed=3)
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
