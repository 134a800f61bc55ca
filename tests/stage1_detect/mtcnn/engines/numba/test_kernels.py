"""The CPU's own code: its formula, on every width of vector, and never older than its text."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from llvmlite.binding import get_host_cpu_features
from scipy.signal import correlate

from cropfirst.stage1_detect.mtcnn.engines.numba import jit
from cropfirst.stage1_detect.mtcnn.engines.numba.winograd import WINOGRAD_3, WINOGRAD_4, Winograd


@pytest.mark.parametrize("tiles", [WINOGRAD_3, WINOGRAD_4], ids=["3x3", "4x4"])
def test_a_tiles_results_are_those_of_the_plain_convolution(tiles: Winograd) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(tiles.input_side, tiles.input_side, 5))
    weight = rng.normal(size=(7, 5, 3, 3)).astype(np.float32)

    def both_ways(formula: object, values: np.ndarray) -> np.ndarray:
        assert callable(formula)
        down = np.stack(formula(list(values)))
        return np.stack(formula(list(down.swapaxes(0, 1)))).swapaxes(0, 1)

    transformed = both_ways(tiles.input_transform, pixels)
    weights = tiles.transform_weights(weight).reshape(tiles.input_side, tiles.input_side, 5, 7)
    results = both_ways(tiles.output_transform, np.einsum("ijc,ijco->ijo", transformed, weights))
    wanted = [
        sum(correlate(pixels[..., c], weight[o, c], mode="valid") for c in range(5))
        for o in range(7)
    ]
    np.testing.assert_allclose(results, np.stack(wanted, axis=-1), atol=1e-4)


# AVX-512 is what all other tests run on where it is there.
WIDTHS = {
    "AVX2": (8, "haswell", "avx2 avx fma"),
    "SSE": (4, "x86-64", "sse2"),
}

COMPARE = """
import math
import numpy as np, torch
from cropfirst.stage1_detect.mtcnn.engines.numba.area import RawPhotos
from cropfirst.stage1_detect.mtcnn.pyramid.levels import PyramidLevel, split_into_strips
from cropfirst.stage1_detect.mtcnn.engines.choose import make_engine
from cropfirst.stage1_detect.mtcnn.engines.numba.vectors import LANES
ours, theirs = (make_engine(n, weights="reference", device="cpu") for n in ("numba", "torch"))
photo = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
images, worst = RawPhotos.from_photos([photo]), 0.0
for size in ((11, 11), (12, 47), (101, 90), (150, 173)):
    strips = split_into_strips(PyramidLevel(0, 0, 0.5, *size))
    sides = [engine.run_pnet(images, strips, -math.inf) for engine in (ours, theirs)]
    mine, other = (outputs[positions.argsort()] for outputs, positions in sides)
    assert len(mine) and torch.equal(*(positions.sort().values for _, positions in sides))
    worst = max(worst, float((mine - other).abs().max()))
for side, n in ((24, 1), (24, 19), (48, 1), (48, 7)):
    crops = torch.rand(n, side, side, 3, generator=torch.Generator().manual_seed(n)) * 2 - 1
    run = "run_rnet" if side == 24 else "run_onet"
    mine, other = (getattr(engine, run)(crops) for engine in (ours, theirs))
    worst = max(worst, float((mine - other).abs().max()))
print(LANES, worst)
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_processors_of_any_width_give_the_same_answers(width: str, tmp_path: Path) -> None:
    lanes, cpu, features = WIDTHS[width]
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip(f"these widths are those of x86-64, this is {platform.machine()}: NOT tested")
    there = get_host_cpu_features()
    if not all(there.get(feature) for feature in features.split()):
        pytest.skip(f"this processor has no {width}: its code was NOT tested")
    told = ",".join(f"+{feature}" for feature in features.split())
    # Not optimised, all is compiled a third sooner, and the vectors are as wide.
    env = os.environ | {
        "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": told, "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_OPT": "0",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", COMPARE], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen, worst = done.stdout.split()
    assert int(seen) == lanes
    assert float(worst) < 1e-4


KEPT = """
import sys
from cropfirst.stage1_detect.mtcnn.engines.numba import jit as compiled
compiled._generating_text = lambda: sys.argv[2]
sys.path.insert(0, sys.argv[1])
from other import one_more
assert one_more(1) == 2
print(sum(one_more.stats.cache_hits.values()))
"""


def test_kept_code_goes_when_the_text_that_went_into_it_changes(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(
        "from cropfirst.stage1_detect.mtcnn.engines.numba.jit import compiled\n"
        "@compiled\ndef one_more(x):\n    return x + 1\n"
    )
    hits = [
        subprocess.run(
            [sys.executable, "-c", KEPT, str(tmp_path), text],
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for text in ("a", "a", "b")
    ]  # fmt: skip
    assert hits == ["0", "1", "0"]


def test_a_numba_whose_cache_has_no_stamp_compiles_in_each_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another version of Numba may keep machine code in another way: then none is kept, so that
    none can be stale."""
    made = []

    def njit(function: Any, **options: Any) -> Any:
        made.append(options)
        dispatcher = numba_njit(function, **options)
        if options.get("cache"):
            return SimpleNamespace(_cache=SimpleNamespace())
        return dispatcher

    numba_njit = jit.numba.njit
    monkeypatch.setattr(jit.numba, "njit", njit)

    def one_more(x: int) -> int:
        return x + 1

    function = jit.compiled(one_more)
    monkeypatch.undo()
    assert function(1) == 2
    assert [bool(options.get("cache")) for options in made] == [True, False]
    assert not function.stats.cache_path
