"""Learning rate, weight decay and the optimizer's state."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cropfirst.stage2_classify.models import Classifier, build_classifier
from cropfirst.stage2_classify.optim import (
    build_optimizer,
    cosine_lr,
    load_optimizer_tensors,
    optimizer_tensors,
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
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()


def test_the_learning_rate_warms_up_linearly_and_ends_near_zero() -> None:
    rates = [cosine_lr(s, base_lr=1.0, total_steps=100, warmup_steps=10) for s in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-3


def test_no_warmup_starts_at_the_top() -> None:
    assert cosine_lr(0, base_lr=0.3, total_steps=10, warmup_steps=0) == 0.3


def test_norms_biases_and_position_embeddings_do_not_decay() -> None:
    model = build()
    optimizer = build_optimizer(model, lr=1e-3, weight_decay=0.1)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    rates = {name: decay[id(parameter)] for name, parameter in model.named_parameters()}
    assert len(rates) == len(decay)
    assert rates["heads.0.weight"] == 0.1
    assert rates["backbone.blocks.0.attn.qkv.weight"] == 0.1
    for name in ("heads.0.bias", "backbone.blocks.0.norm1.weight", "backbone.pos_embed"):
        assert rates[name] == 0.0, name


def test_the_state_comes_back_to_the_last_bit() -> None:
    model, twin = build(), build()
    optimizers = [build_optimizer(m, lr=1e-2, weight_decay=0.1) for m in (model, twin)]
    for seed in (1, 2):
        step(model, optimizers[0], seed=seed)
    twin.load_state_dict(model.state_dict())
    load_optimizer_tensors(optimizers[1], optimizer_tensors(optimizers[0]))
    step(model, optimizers[0], seed=3)
    step(twin, optimizers[1], seed=3)
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
