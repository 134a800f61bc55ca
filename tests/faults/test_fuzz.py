"""Whatever bytes come: an image or a ReadError, a table or an error of ours, nothing else."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from broken_photos import wholes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cropfirst.cache import CROP_SCHEMA, Cache, Manifest
from cropfirst.cache.tables import decode_table, encode_table
from cropfirst.configs import ConfigError, load_config, load_yaml
from cropfirst.core.decode import ReadError, decode
from cropfirst.core.errors import CacheError, CropfirstError, DataError
from cropfirst.stage1_detect.config import DecodeConfig, DetectConfig
from cropfirst.stage2_classify.config import TrainConfig
from cropfirst.stage2_classify.datasets.tables import read_csv
from cropfirst.stage2_classify.labels.schema import load_schema
from cropfirst.stage2_classify.runs.checkpoint import read_meta

LIMITS = DecodeConfig(max_megapixels=4)
FILES = [data for _, data, _, _ in wholes()]

edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=12)), min_size=1, max_size=6
)
"""Each: where in the file, what is done there, with which bytes."""
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
tree = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def edited(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for share, what, piece in changes:
        place = round(share * len(data))
        if what == 0:
            data = data[:place]
        elif what == 1:
            data = data[:place] + piece + data[place:]
        elif what == 2:
            data = data[:place] + piece + data[place + len(piece) :]
        else:
            data = data[:place] + data[place + len(piece) :]
    return data


def decodes_or_says_why(data: bytes) -> None:
    try:
        image = decode(data, LIMITS)
    except ReadError as error:
        assert error.kind and str(error)
    else:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert 0 < image.shape[0] * image.shape[1] <= 4e6


@settings(max_examples=1_000, deadline=None, derandomize=True)
@given(st.sampled_from(FILES), edits)
def test_edited_photos(data: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    decodes_or_says_why(edited(data, changes))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from([data[:24] for data in FILES]) | st.just(b""), st.binary(max_size=300))
def test_any_bytes_behind_any_header(head: bytes, rest: bytes) -> None:
    decodes_or_says_why(head + rest)


TABLE = encode_table(
    pl.DataFrame({"key": [f"{n}.jpg" for n in range(50)], "prob": np.arange(50) / 50}),
    kind="oof", version=1,
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(edits)
def test_a_stamped_table_is_as_it_was_or_refused(changes: list[tuple[float, int, bytes]]) -> None:
    data = edited(TABLE, changes)
    try:
        frame = decode_table(data, Path("t"), kind="oof", version=1, fix="do it again")
    except CacheError as error:
        assert "do it again" in str(error)
    else:
        assert data == TABLE and frame.height == 50


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, len(TABLE) * 8 - 1))
def test_no_single_bit_of_a_table_can_change_unnoticed(bit: int) -> None:
    data = bytearray(TABLE)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CacheError):
        decode_table(bytes(data), Path("t"), kind="oof", version=1, fix="x")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(edits)
def test_a_table_without_a_stamp_never_crashes(changes: list[tuple[float, int, bytes]]) -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"key": ["a", "b"], "probs": [[0.5, 1.0], []]}).write_parquet(buffer)
    data = edited(buffer.getvalue(), changes)
    with contextlib.suppress(CacheError):
        decode_table(data, Path("t"), kind="oof", version=1, fix="x", unstamped=True)


reused = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@reused
@given(edits)
def test_an_edited_manifest(tmp_path: Path, changes: list[tuple[float, int, bytes]]) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA, kind="crops")
    manifest.path.unlink(missing_ok=True)
    for part in manifest.files():
        part.unlink()
    manifest.append([{"key": "a", "n_faces": 2}, {"key": "b"}])
    (part,) = manifest.files()
    data = part.read_bytes()
    part.write_bytes(edited(data, changes))
    try:
        rows = manifest.read()
    except CacheError:
        return
    assert part.read_bytes() == data and rows.height == 2


def loads_or_says_why(path: Path) -> None:
    try:
        assert isinstance(load_yaml(path), dict)
    except ConfigError as error:
        assert path.name in str(error)
    with contextlib.suppress(CropfirstError, ConfigError):
        load_schema(str(path))


@reused
@given(st.text(max_size=80))
def test_any_text_as_a_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, "utf-8", "surrogatepass")
    loads_or_says_why(path)


@pytest.mark.parametrize("text", ["[" * 1_000, "{a: " * 1_500, "- " * 2_000, "&a [*a, *a]"])
def test_recipes_that_never_end(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    loads_or_says_why(path)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(tree, st.sampled_from(["crop.margin", "detector", "retry", "decode.max_megapixels", "x.y"]))
def test_any_value_of_a_setting(value: object, key: str) -> None:
    for model in (DetectConfig, TrainConfig):
        try:
            load_config(model, values={key: value}, overrides=[f"{key}={json.dumps(value)}"])
        except ConfigError as error:
            assert str(error)


@reused
@given(
    st.binary(max_size=120) | st.text(max_size=80).map(lambda text: f"path,a\n{text}\n".encode())
)
def test_any_bytes_as_a_table_of_photos(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    try:
        read_csv(path, required=["path"])
    except DataError as error:
        assert "labels.csv" in str(error)


def is_refused(folder: Path, data: bytes) -> None:
    for name in ("cache.json", "meta.json"):
        (folder / name).write_bytes(data)
    for read in (Cache.open, read_meta):
        with pytest.raises(CropfirstError):
            read(folder)


@reused
@given(st.binary(max_size=60) | tree.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_what_cropfirst_wrote_itself(tmp_path: Path, data: bytes) -> None:
    is_refused(tmp_path, data)


def test_json_that_never_ends(tmp_path: Path) -> None:
    is_refused(tmp_path, b"[" * 90_000)
