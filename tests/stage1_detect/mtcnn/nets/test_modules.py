"""Our networks have the reference's weights and give its outputs."""

from __future__ import annotations

from pathlib import Path

import facenet_pytorch
import pytest
import torch
from facenet_pytorch.models import mtcnn as reference
from safetensors.torch import save_file

from cropfirst.core.errors import DetectError
from cropfirst.stage1_detect.mtcnn.nets.modules import load_nets


def test_shipped_weights_are_those_of_the_wheel() -> None:
    nets = load_nets("reference")
    folder = Path(facenet_pytorch.__file__).parent / "data"
    for name, net in zip(("pnet", "rnet", "onet"), nets, strict=True):
        wanted = torch.load(folder / f"{name}.pt", weights_only=True)
        ours = net.state_dict()
        assert ours.keys() == wanted.keys()
        for key, tensor in wanted.items():
            assert torch.equal(ours[key], tensor), f"{name}.{key}"


@pytest.mark.parametrize("size", [12, 13, 31, 64])
def test_pnet_answers_as_the_reference(size: int) -> None:
    ours, _, _ = load_nets("reference")
    theirs = reference.PNet().eval()
    x = torch.rand(2, 3, size, size + 5, generator=torch.Generator().manual_seed(size)) * 2 - 1
    with torch.no_grad():
        logits, offsets = ours(x)
        wanted_offsets, wanted_scores = theirs(x)
    torch.testing.assert_close(offsets, wanted_offsets, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits.softmax(1)[:, 1], wanted_scores[:, 1], atol=1e-6, rtol=1e-5)


def test_rnet_and_onet_answer_as_the_reference() -> None:
    _, rnet, onet = load_nets("reference")
    generator = torch.Generator().manual_seed(0)
    small, large = (torch.rand(5, 3, s, s, generator=generator) * 2 - 1 for s in (24, 48))
    with torch.no_grad():
        r_offsets, r_scores = reference.RNet().eval()(small)
        o_offsets, o_points, o_scores = reference.ONet().eval()(large)
        logits, offsets = rnet(small)
        torch.testing.assert_close(offsets, r_offsets, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logits.softmax(1)[:, 1], r_scores[:, 1], atol=1e-6, rtol=1e-5)
        logits, offsets, landmarks = onet(large)
    torch.testing.assert_close(offsets, o_offsets, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits.softmax(1)[:, 1], o_scores[:, 1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(landmarks.flatten(1), o_points, atol=1e-5, rtol=1e-5)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"pnet.conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(DetectError, match="does not hold MTCNN weights"):
        load_nets(str(file))


def test_a_name_that_is_no_file_is_refused() -> None:
    with pytest.raises(DetectError, match="'reference', 'masked', 'joined' or an existing"):
        load_nets("masked-maybe")
