"""Every engine gives the outputs of the PyTorch modules."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.mtcnn.engines.base import Engine
from cropfirst.stage1_detect.mtcnn.engines.choose import make_engine, resolve_engine
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets

ENGINES = ["torch", "numba"]


def _pictures(n: int, side: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.rand(n, side, side, channels, generator=generator) * 2 - 1


def _engine(name: Any, weights: str = "reference") -> Engine:
    return make_engine(name, weights=weights, device="cpu")


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("n", [1, 3, 16, 37])
def test_rnet_and_onet_answer_as_the_modules(name: str, n: int) -> None:
    _, rnet, onet = load_nets("reference")
    small, large = _pictures(n, 24), _pictures(n, 48)
    engine = _engine(name)
    with torch.inference_mode():
        logits, offsets = rnet(small.permute(0, 3, 1, 2))
        refined = engine.run_rnet(small)
        torch.testing.assert_close(
            refined[:, 0].sigmoid(), logits.softmax(1)[:, 1], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(refined[:, 1:], offsets, atol=1e-4, rtol=1e-4)
        logits, offsets, landmarks = onet(large.permute(0, 3, 1, 2))
        decided = engine.run_onet(large)
    torch.testing.assert_close(decided[:, 0].sigmoid(), logits.softmax(1)[:, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(decided[:, 1:5], offsets, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decided[:, 5:].view(-1, 2, 5), landmarks, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ENGINES)
def test_slopes_of_any_sign_are_fused_rightly(name: str, tmp_path: Path) -> None:
    """Other weights than the reference's have other slopes: none, all or some negative, over 1."""
    nets = load_nets("reference")
    tensors = {
        f"{prefix}.{key}": value.clone()
        for prefix, net in zip(("pnet", "rnet", "onet"), nets, strict=True)
        for key, value in net.state_dict().items()
    }
    windows = _pictures(60, 12)
    for slopes in (torch.linspace(0, 1.5, 10), -torch.linspace(0.1, 1.5, 10)):
        tensors["pnet.prelu1.weight"] = slopes
        file = tmp_path / "other.safetensors"
        save_file(tensors, file)
        with torch.inference_mode():
            logits, offsets = load_nets(str(file))[0](windows.permute(0, 3, 1, 2))
            outputs = _engine(name, str(file)).run_pnet_on_windows(windows)
        torch.testing.assert_close(
            outputs[:, 0].sigmoid(), logits.softmax(1)[:, 1, 0, 0], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(outputs[:, 1:], offsets[..., 0, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ENGINES)
def test_a_picture_gets_the_same_answer_whatever_is_beside_it(name: str) -> None:
    engine = _engine(name)
    pictures = _pictures(32, 48)
    with torch.inference_mode():
        together, alone = engine.run_onet(pictures)[5], engine.run_onet(pictures[5:6])[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_threads_do_not_get_each_others_answers() -> None:
    engine = _engine("numba")
    inputs = [_pictures(5, 24) * scale for scale in (0.1, 0.4, 0.7, 1.0)] * 8
    with torch.inference_mode():
        wanted = [engine.run_rnet(each) for each in inputs]
    with ThreadPoolExecutor(4) as pool:
        for got, expected in zip(pool.map(engine.run_rnet, inputs), wanted, strict=True):
            assert torch.equal(got, expected)


def test_auto_is_numba_on_the_cpu_and_torch_elsewhere() -> None:
    assert resolve_engine("auto", "cpu") == "numba"
    assert resolve_engine("auto", "cuda") == "torch"
    assert resolve_engine("torch", "cpu") == "torch"


def test_a_cpus_engine_on_a_gpu_is_refused_with_the_way_out() -> None:
    with pytest.raises(DetectError, match=r"--engine numba runs on the CPU.*--engine torch"):
        make_engine("numba", weights="reference", device="cuda")


def test_half_precision_stays_close_enough_for_the_same_faces() -> None:
    """The GPU's half precision, on CPU tensors."""
    from cropfirst.stage1_detect.mtcnn.engines.torch import TorchEngine
    from cropfirst.stage1_detect.mtcnn.nets.fused_weights import fuse
    from cropfirst.stage1_detect.mtcnn.nets.modules import load_tensors

    half = TorchEngine(fuse(load_tensors("reference")), device=torch.device("cpu"), half=True)
    pictures = _pictures(8, 48)
    with torch.inference_mode():
        got, wanted = half.run_onet(pictures), _engine("torch").run_onet(pictures)
    torch.testing.assert_close(got, wanted, atol=0.05, rtol=0.02)
