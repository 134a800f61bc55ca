"""A bundle is opened only if it is complete and unchanged; hostile ones are refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cropfirst.core.errors import BundleError
from cropfirst.door import Bundle
from cropfirst.door.check import check_golden
from cropfirst.door.manifest import Manifest, file_entry

CLASSES = ["wear", "incorrect", "normal"]
RULES: dict[str, Any] = {
    "weights": "reference", "min_face_size": 40, "factor": 0.709, "thresholds": [0.6, 0.7, 0.7],
    "search": "all", "select": "largest", "rnet_overlap": 0.7, "localiser": False,
    "retry": [],
}  # fmt: skip
Edit = Callable[[dict[str, Any]], None]


def network(
    side: int | None, outputs: dict[str, int], *, name: str, external: str | None = None
) -> bytes:
    """A network of convolutions over the whole input, with the shapes of a bundle's."""
    kernel, nodes, weights = side or 12, [], []
    for output, count in outputs.items():
        rng = np.random.default_rng(count)
        weight = numpy_helper.from_array(
            rng.normal(0, 0.01, (count, 3, kernel, kernel)).astype(np.float32), f"w_{output}"
        )
        if external is not None:
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            weight.external_data.add(key="location", value=external)
        weights.append(weight)
        nodes.append(helper.make_node("Conv", ["x", f"w_{output}"], [f"c_{output}"],
                                      strides=[2, 2], kernel_shape=[kernel, kernel]))  # fmt: skip
        squeezed = [1] if side is None and output == "logit" else [2, 3]
        if side is not None and output == "logit":
            squeezed = [1, 2, 3]
        if side is None and output == "offsets":
            nodes.append(helper.make_node("Identity", [f"c_{output}"], [output]))
            continue
        axes = numpy_helper.from_array(np.array(squeezed, np.int64), f"a_{output}")
        weights.append(axes)
        nodes.append(helper.make_node("Squeeze", [f"c_{output}", f"a_{output}"], [output]))
    free = ["n", "h", "w"]

    def shape(output: str, count: int) -> list[Any]:
        if side is None:
            return free if output == "logit" else ["n", count, "h", "w"]
        return ["n"] if output == "logit" else ["n", count]

    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT,
                                       ["n", 3, side or "height", side or "width"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape(output, count))
         for output, count in outputs.items()],
        initializer=weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for node in model.graph.node:
        node.input[:] = [name if each == "x" else each for each in node.input]
    model.graph.input[0].name = name
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Files of a bundle whose networks have the right shapes and know nothing."""
    windows = {"logit": 1, "offsets": 4}
    answers = json.dumps({"photos": {}}).encode()
    return {
        "pnet.onnx": network(None, windows, name="image"),
        "rnet.onnx": network(24, windows, name="windows"),
        "onet.onnx": network(48, {**windows, "landmarks": 10}, name="windows"),
        "classifier-0.onnx": network(32, {"mask": 3}, name="crops"),
        "golden/answers.json": answers,
    }


def manifest_of(files: dict[str, bytes]) -> dict[str, Any]:
    return {
        "format": "cropfirst-bundle", "format_version": 2,
        "files": {name: vars(file_entry(raw)) for name, raw in files.items()},
        "detector": copy.deepcopy(RULES),
        "crop": {"background": "ellipse", "image_size": 32, "margin": 0.1, "ellipse_width": 1.0,
                 "ellipse_height": 1.0, "align": False, "fill": 127},
        "classifiers": [{"file": "classifier-0.onnx", "image_size": 32, "mean": [0.5] * 3,
                         "std": [0.5] * 3, "tasks": {"mask": 1.0}}],
        "tasks": {"mask": {"classes": CLASSES, "temperature": 1.0, "offsets": [], "sets": None}},
        "limits": {"smallest_face": 20, "sharpness": 0.0, "turn": 1.0},
        "made_by": {}, "about": {},
    }  # fmt: skip


def write(folder: Path, files: dict[str, bytes], edit: Edit = lambda manifest: None) -> Path:
    """Write a bundle with a manifest that `edit` has changed."""
    for name, raw in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    manifest = manifest_of(files)
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return folder


def setting(*path: Any, to: Any) -> Edit:
    """Return an edit that sets one value of the manifest."""

    def edit(manifest: dict[str, Any]) -> None:
        inner: Any = manifest
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = to

    return edit


def test_a_bundle_opens_and_answers(files: dict[str, bytes], tmp_path: Path) -> None:
    bundle = Bundle.open(write(tmp_path, files), threads=1)
    assert bundle.tasks == {"mask": tuple(CLASSES)}
    photo = np.full((90, 120, 3), 200, np.uint8)
    assert isinstance(bundle.predict(photo), list) and len(bundle.predict_batch([photo] * 2)) == 2
    probs = bundle.probabilities([np.zeros((32, 32, 3), np.uint8)] * 3)["mask"]
    assert probs.shape == (3, 3) and probs.dtype == np.float32
    assert bundle.probabilities([])["mask"].shape == (0, 3)
    assert check_golden(bundle, tmp_path).problems == ()
    with pytest.raises(ValueError, match="uint8 RGB"):
        bundle.predict(photo.astype(np.float32))
    with pytest.raises(ValueError, match="got NoneType; cv2"):
        bundle.predict(cv2.imread(str(tmp_path / "missing.jpg")))  # type: ignore[arg-type]


BAD = {
    "another format": (setting("format", to="zip"), "not of a bundle"),
    "another version": (setting("format_version", to=1), "format version 1"),
    "a path outside": (setting("files", "../x.onnx", to={"sha256": "0", "bytes": 1}), "inside of"),
    "an absolute path": (setting("files", "/etc/passwd", to={"sha256": "0", "bytes": 1}), "inside"),
    "a path of Windows": (setting("files", "a\\..\\b", to={"sha256": "0", "bytes": 1}), "inside"),
    "a drive": (setting("files", "C:x", to={"sha256": "0", "bytes": 1}), "inside"),
    "a missing file": (setting("files", "more.onnx", to={"sha256": "0", "bytes": 1}), "is missing"),
    "a huge file": (setting("files", "pnet.onnx", "bytes", to=2**40), "whole number from 0"),
    "a file that is not listed": (setting("files", to={}), "lists no file pnet.onnx"),
    "a classifier that is not listed": (setting("classifiers", 0, "file", to="x"), "lists no file"),
    "a classifier named as the detector": (
        setting("classifiers", 0, "file", to="pnet.onnx"), "names a network twice",
    ),
    "huge crops": (setting("crop", "image_size", to=10**9), "image_size is 1000000000"),
    "a huge input": (setting("classifiers", 0, "image_size", to=10**6), "image_size"),
    "another input": (setting("classifiers", 0, "image_size", to=64), "is not the network"),
    "another number of classes": (
        setting("tasks", "mask", "classes", to=["a", "b"]), "is not the network",
    ),
    "too many classes": (
        setting("tasks", "mask", "classes", to=[str(n) for n in range(20_000)]), "a list",
    ),
    "a class twice": (setting("tasks", "mask", "classes", to=["a", "a", "b"]), "different texts"),
    "a task without a network": (
        setting("tasks", "age", to={"classes": ["x"], "temperature": 1, "offsets": [],
                                    "sets": None}), "no classifier votes on the task 'age'",
    ),
    "a vote on no task": (
        setting("classifiers", 0, "tasks", to={"mask": 1, "hat": 1}), "which is no task",
    ),
    "a deviation of 0": (setting("classifiers", 0, "std", to=[0, 0, 0]), "std"),
    "a number that is none": (setting("crop", "margin", to=float("nan")), "margin is nan"),
    "an infinite limit": (setting("limits", "turn", to=float("inf")), "turn is inf"),
    "a text for a number": (setting("detector", "factor", to="0.7"), "factor is '0.7'"),
    "true for a number": (setting("crop", "fill", to=True), "fill is True"),
    "another background": (setting("crop", "background", to="photo"), "background is 'photo'"),
    "two thresholds": (setting("detector", "thresholds", to=[0.6, 0.7]), "3 numbers"),
    "a huge enlargement": (
        setting("detector", "retry", to=[{"name": "x", "thresholds": [0.5] * 3, "flip": False,
                                          "contrast": False, "scale": 1e6}]), "scale",
    ),
    "a list for an object": (setting("tasks", to=[]), "wanted an object"),
    "offsets of other classes": (setting("tasks", "mask", "offsets", to=[0.1]), "1 offsets"),
    "sets of other classes": (
        setting("tasks", "mask", "sets",
                to={"alpha": 0.2, "source": "x", "classes": {"a": {"people": 9, "alphas": [0.1],
                                                                   "limits": [0.5]}}}),
        "the sets are of",
    ),
    "sets that are none": (
        setting("tasks", "mask", "sets", to={"alpha": 0.2, "source": "x", "classes": {}}),
        "the sets cannot be used",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "message"), BAD.values(), ids=BAD)
def test_a_manifest_that_is_not_allowed_is_refused(
    edit: Edit, message: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    folder = write(tmp_path, files, edit)
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder, threads=1)


@pytest.mark.parametrize(
    "raw",
    [b"", b"PK\x03\x04", b"[1]", b"{" * 100_000, b'{"a":' * 100_000 + b"1", b"\xff\xfe\x00"],
    ids=["empty", "zip", "list", "braces", "deep", "bytes"],
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Manifest.from_json(raw)


def test_a_file_that_was_changed_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = write(tmp_path, files)
    raw = files["classifier-0.onnx"]
    for changed in (raw[:-1], raw + b"x", raw[:-1] + bytes([raw[-1] ^ 1])):
        (folder / "classifier-0.onnx").write_bytes(changed)
        with pytest.raises(BundleError, match="is not the file that was exported"):
            Bundle.open(folder)
    (folder / "classifier-0.onnx").unlink()
    with pytest.raises(BundleError, match="is missing"):
        Bundle.open(folder)


def test_a_link_out_of_the_bundle_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = write(tmp_path / "bundle", files)
    (tmp_path / "outside.onnx").write_bytes(files["rnet.onnx"])
    (folder / "rnet.onnx").unlink()
    (folder / "rnet.onnx").symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(BundleError, match="leads out of the bundle"):
        Bundle.open(folder)


def test_swapped_networks_are_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    swapped = {**files, "rnet.onnx": files["onet.onnx"], "onet.onnx": files["rnet.onnx"]}
    with pytest.raises(BundleError, match=r"rnet\.onnx is not the network"):
        Bundle.open(write(tmp_path, swapped))


def test_a_file_that_is_no_network_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"pnet\.onnx cannot be loaded"):
        Bundle.open(write(tmp_path, {**files, "pnet.onnx": b"no network"}))


@pytest.mark.parametrize("place", ["/etc/passwd", "../weights", "weights"])
def test_a_network_with_weights_in_another_file_is_refused(
    place: str, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_bytes(bytes(3 * 3 * 32 * 32 * 4))
    outside = network(32, {"mask": 3}, name="crops", external=place)
    with pytest.raises(BundleError, match=r"classifier-0\.onnx"):
        Bundle.open(write(tmp_path, {**files, "classifier-0.onnx": outside}))


def test_no_folder_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BundleError, match="no bundle in"):
            Bundle.open(folder)


def test_a_class_is_possible_by_its_limit(files: dict[str, bytes], tmp_path: Path) -> None:
    def limits(*values: float) -> Edit:
        classes = {name: {"people": 9, "alphas": [0.1, 0.2], "limits": [0.0, value]}
                   for name, value in zip(CLASSES, values, strict=True)}  # fmt: skip
        return setting("tasks", "mask", "sets",
                       to={"alpha": 0.2, "source": "out of fold", "classes": classes})  # fmt: skip

    from cropfirst.door.answers import answer_faces
    from cropfirst.door.faces import Face

    manifest = manifest_of(files)
    limits(0.3, 0.3, 0.9)(manifest)
    read = Manifest.from_json(json.dumps(manifest).encode())
    points = np.array([[0, 0], [9, 0], [4.5, 5], [1, 9], [8, 9]])
    face = Face((0, 0, 50, 50), points, 1.0, "detected")
    crop = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    for probs, wanted in (
        ([0.4, 0.35, 0.25], ("wear", "incorrect")),
        ([0.7, 0.2, 0.1], ("wear",)),
        ([0.2, 0.2, 0.6], ()),
    ):
        (answered,) = answer_faces([face], [crop], {"mask": np.array([probs], np.float32)}, read)
        answer = answered.answers["mask"]
        assert answer.possible == wanted and answer.is_sure == (len(wanted) == 1)
        assert answered.unknown is None


def test_onnx_files_of_the_tests_are_valid(files: dict[str, bytes]) -> None:
    for name, raw in files.items():
        if name.endswith(".onnx"):
            onnx.checker.check_model(raw, full_check=True)
