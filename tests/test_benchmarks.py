"""Each program under benchmarks/ runs once, on a few small drawn photos."""

from __future__ import annotations

import csv
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from drawn_bundle import write_bundle

from cropfirst.stage1_detect.mtcnn.nets.modules import weights_file
from cropfirst.stage2_classify.drawn.portrait import Shot, draw_portrait, random_person

Run = Callable[..., str]
FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
LABELS = {
    "normal": "without_mask", "mask1": "with_mask", "incorrect_mask": "mask_weared_incorrect",
}  # fmt: skip
ARGUMENTS = {
    "bundle.py": "DATA --backbone test_resnet --size 32 --threads 1 --rounds 1 --limit 2",
    "cache.py": "--count 20 --image-size 32 --rounds 1",
    "detect.py": "DATA --min-face-size 40 --limit 3 --rounds 1 --threads 1",
    "landmarks.py": "DATA --limit 3",
    "many_photos.py": "DATA --counts 3 --different 3 --tmp TMP",
    "recall.py": "DATA --joins --limit 3 --false 1",
    "retries.py": "DATA",
    "masked_faces.py": "DATA --weights masked",
    "same_faces.py": "DATA --limit 3 --border",
    "serve.py": "BUNDLE PHOTO --seconds 0.3 --clients 1,2",
    "swapped_rooms.py": "--work TMP --people 6 --eval-people 2 --config demo_convnext "
    "--task gender --epochs 1",
    "train.py": "DATA --limit 4 --mtcnn-limit 0 --rounds 1 --model test_vit --size 32 --batch 2 "
    "--steps 1 --loader-seconds 0.1 --device cpu",
}
"""Program -> its arguments; DATA are the drawn photos, PHOTO is one of them, TMP an empty folder,
and BUNDLE a bundle that knows the photos."""
NO_PROGRAM = {
    "detect_peers.py", "detect_steps.py", "equal_false.py", "found_faces.py", "gpu.py",
    "gpu_summary.py", "gpu_wheels.py", "joins.py", "photo_files.py", "structure.py",
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn portraits and a boxes.csv that says where their faces are."""
    folder = tmp_path_factory.mktemp("photos")
    with (folder / "boxes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "label", "xmin", "ymin", "xmax", "ymax"))
        for number, kind in enumerate([*LABELS, *LABELS]):
            rng = np.random.default_rng(number)
            person = random_person(rng, name="x", gender="male", age=30)
            drawn = draw_portrait(person, Shot(kind, number), rng, (144, 192))
            assert cv2.imwrite(str(folder / f"{number}.jpg"), drawn.image[..., ::-1])
            table.writerow((f"{number}.jpg", LABELS[kind], *drawn.face_box))
    return folder


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Run a program in this process, which has imported torch; return what it printed."""

    def call(program: Path, *arguments: str) -> str:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", [str(program), *arguments])
        monkeypatch.syspath_prepend(str(program.parent))
        try:
            runpy.run_path(str(program), run_name="__main__")
        except SystemExit as end:  # of click
            assert end.code == 0, capsys.readouterr().out
        return capsys.readouterr().out

    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield call
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_benchmark_runs(name: str, photos: Path, tmp_path: Path, run: Run) -> None:
    if name == "many_photos.py" and not Path("/proc/self/status").is_file():
        pytest.skip("this system has no /proc, from which many_photos.py reads the memory")
    words = {"DATA": str(photos), "PHOTO": str(photos / "0.jpg"), "TMP": str(tmp_path)}
    if "BUNDLE" in ARGUMENTS[name]:
        files = [cv2.imread(str(photos / f"{number}.jpg"))[..., ::-1] for number in range(6)]
        words["BUNDLE"] = str(write_bundle(tmp_path / "bundle", files, [2, 0, 1] * 2))
    arguments = [words.get(word, word) for word in ARGUMENTS[name].split()]
    figures = tmp_path / "figures.json"
    assert run(FOLDER / name, *arguments, "--json", str(figures)).strip()
    assert json.loads(figures.read_text())


@pytest.mark.slow
def test_photos_of_a_fold_are_seen_by_its_own_weights(
    photos: Path, tmp_path: Path, run: Run
) -> None:
    for name in ("fold0", "fold1"):
        (tmp_path / name).mkdir()
        shutil.copy(weights_file("masked" if name == "fold0" else "reference"),
                    tmp_path / name / "weights.safetensors")  # fmt: skip
    folds = {f"fold{k}/weights.safetensors": [f"{n}.jpg" for n in kept]
             for k, kept in enumerate([(0, 1), (2, 3)])}  # fmt: skip
    (tmp_path / "folds.json").write_text(json.dumps(folds))
    figures = tmp_path / "figures.json"
    arguments = ["--folds", str(tmp_path / "folds.json"), "--false", "1", "--json", str(figures)]
    run(FOLDER / "recall.py", str(photos), *arguments)
    scored = json.loads(figures.read_text())[photos.name]
    faces = {name: sum(of for _, of in each["found"].values()) for name, each in scored.items()}
    assert set(faces.values()) == {4}, "the photos of no fold are left out"
    assert {"hardened, of the folds", "joined, of the folds"} < set(scored)


@pytest.mark.slow
@pytest.mark.requires_shared
def test_yunet_is_measured_beside_ours(photos: Path, tmp_path: Path, run: Run) -> None:
    peer = Path(__file__).resolve().parents[1] / "../shared/peers/yunet_n_640_640.onnx"
    if not peer.is_file():
        pytest.skip(f"../shared/peers is absent: no YuNet to measure at {peer}")
    figures = tmp_path / "figures.json"
    said = run(
        FOLDER / "detect.py", str(photos), "--min-face-size", "40", "--rounds", "1",
        "--threads", "2", "--yunet", str(peer), "--json", str(figures),
    )  # fmt: skip
    assert "YuNet" in said and "main bare (2)" in said, said
    found = json.loads(figures.read_text())
    speeds = found["results"][0]["detectors"]
    for name in ("cropfirst, numba", "cropfirst, joined", "YuNet, one by one"):
        assert speeds[name]["photos_per_s"] > 0 and speeds[name]["main_face"] > 0.6, speeds[name]
    assert "YuNet, a photo per thread" in speeds
    (scored,) = found["equal_false"].values()
    assert set(scored) == {"reference", "masked", "joined", "YuNet"}
    for each in scored.values():
        assert each["found"]["normal"] == [2, 2] and each["false_per_photo"] <= 0.5, each
        assert set(each["main"]) == {"normal", "wear", "incorrect"} and each["ms"] > 0


linux = pytest.mark.skipif(sys.platform != "linux", reason="benchmarks/gpu.sh is for Linux")


def run_gpu(out: Path, **environment: str) -> tuple[int, str]:
    """Run benchmarks/gpu.sh; return its exit status and what it printed."""
    done = subprocess.run(
        ["bash", str(FOLDER / "gpu.sh")],
        env={**os.environ, "PYTHON": sys.executable, "OUT": str(out), **environment},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@linux
@pytest.mark.slow
def test_the_run_for_a_gpu_goes_through_on_the_cpu(tmp_path: Path) -> None:
    code, said = run_gpu(tmp_path, DRY_RUN="1", WHEELS=str(tmp_path / "none"))
    assert code == 0, said + "".join(log.read_text() for log in tmp_path.glob("*.log"))
    figures = {
        step: json.loads((tmp_path / f"{step}.json").read_text())
        for step in ("parity", "detect", "train", "compile")
    }
    for step in figures:
        assert f"## {step}" in said and f"## {step}" in (tmp_path / "summary.md").read_text()
    for weights in ("reference", "joined"):
        found = figures["parity"][f"{weights}, fp32"]
        assert found["faces"] >= 3 and found["matched"] == 1 and found["extra"] == 0
    detected = figures["detect"]["fp32"]
    assert detected["photos"] == 12 == sum(detected["statuses"].values())
    parts = {"decode", "transfer", "cascade", "cut", "write", "commit"}
    assert set(detected["ms_per_photo"]) == parts
    assert all(value > 0 for value in detected["ms_per_photo"].values())
    assert figures["detect"]["facenet-pytorch, batched"]["photos_per_s"] > 0
    for step in ("train", "compile"):
        (model,) = (each for each in figures[step].values() if isinstance(each, dict))
        assert model["timm_crops_per_s"] > 0 and model["cropfirst_crops_per_s"] > 0
    assert 0 <= figures["train"]["test_convnext"]["waiting_for_loader"] < 1
    assert "no GPU" in (tmp_path / "tests.log").read_text() or torch.cuda.is_available()


@linux
def test_a_machine_without_our_packages_is_told_which_wheels_to_bring(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    (tmp_path / "lmdb-3.0.0-cp311-cp311-manylinux2014_x86_64.whl").touch()
    code, said = run_gpu(tmp_path / "out", PYTHON=str(bare), WHEELS=str(tmp_path))
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert code == 2 and f'make gpu-wheels GPU_PYTHON={version} GPU_NEEDS="absl-py ' in said, said
    assert " polars " in said and " lmdb " not in said
    assert not (tmp_path / "out").exists()


@linux
def test_a_gpu_run_that_is_out_of_time_says_what_it_left_out(tmp_path: Path) -> None:
    code, said = run_gpu(tmp_path, DRY_RUN="1", LIMIT="1")
    assert code == 1 and "tests: left out" in said and "failed: tests compile" in said, said


def test_every_wheel_for_a_gpu_machine_is_pinned(run: Run) -> None:
    program = FOLDER / "gpu_wheels.py"
    lines = run(program, "list").split()
    assert len(lines) > 20 and all(line.count("==") == 1 for line in lines)
    assert run(program, "list", "Pydantic_Core").startswith("pydantic_core==")


def test_no_benchmark_is_left_out() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == {*ARGUMENTS, *NO_PROGRAM}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of three rooms; two of its files import each other."""
    files = {
        "cli.py": "import cropfirst.stage\n",
        "stage/__init__.py": "",
        "stage/config.py": "",
        "stage/run.py": "from cropfirst.stage.inner.one import x\n",
        "stage/inner/__init__.py": "",
        "stage/inner/one.py": "from cropfirst.stage.config import y\n\n\ndef f():\n"
        "    from cropfirst.other import two\n",
        "other/two.py": "import cropfirst.stage.inner.one as one\n",
        "tests/test_it.py": "import cropfirst.cli\n",
        ".venv/lib/site.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_structure_counts_files_lines_arrows_and_circles(checkout: Path, run: Run) -> None:
    lines = run(FOLDER / "structure.py", str(checkout), "--no-help-time").splitlines()
    said = [" ".join(line.split()) for line in lines]
    assert "all 7 8" in said and "stage 5 6" in said and "tests 1 1" in said
    assert "lines of cli.py: 1" in said and "5 stage/inner/one.py" in said
    # cli -> stage; stage -> inner -> stage; inner -> other -> inner
    assert "rooms: 4, arrows between them: 5" in said
    assert said[said.index("circles of rooms: 1") + 1] == "other, stage/inner"
    assert said[said.index("circles of files: 1") + 1] == "other/two.py, stage/inner/one.py"


def test_structure_agrees_with_the_import_tests_on_this_checkout(run: Run) -> None:
    said = run(FOLDER / "structure.py", "--no-help-time")
    assert "circles of rooms: 0" in said and "circles of files: 0" in said
