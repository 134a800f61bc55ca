"""Every artefact says its format; a newer one is refused with the way out, an older one read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from cropfirst.cache import CROP_SCHEMA, Cache, CropReader, CropWriter, Manifest
from cropfirst.cache.tables import read_table, write_table
from cropfirst.core.errors import CacheCorruptError, CacheMismatchError, TrainError
from cropfirst.core.fingerprint import FORMAT
from cropfirst.stage2_classify.runs.checkpoint import load_state, read_meta
from cropfirst.stage2_classify.runs.parquet import read_parquet, write_parquet
from cropfirst.stage2_classify.runs.run_folder import check_format
from cropfirst.stage2_classify.voting.prediction_table import write_predictions

TABLE = pl.DataFrame({"key": ["a", "b"], "fold": [0, 1]})
WAY_OUT = "use the cropfirst that wrote it"


@pytest.mark.parametrize("kind", ["folds", "oof", "predictions"])
def test_tables_of_a_newer_format_are_refused_and_older_ones_read(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"{kind}.parquet"
    write_table(path, TABLE, kind=kind, version=2)
    with pytest.raises(CacheMismatchError, match=rf"has format 2, .* up to 1: {WAY_OUT}"):
        read_table(path, kind=kind, version=1, fix="do it again")
    (write_predictions if kind == "predictions" else write_parquet)(path, TABLE)
    assert read_table(path, kind=kind, version=3, fix="").equals(TABLE)
    TABLE.write_parquet(path)  # as they were before they had a stamp
    assert read_table(path, kind=kind, version=1, fix="").equals(TABLE)


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "folds.parquet", TABLE)
    (tmp_path / "folds.parquet").rename(tmp_path / "oof.parquet")
    with pytest.raises(CacheMismatchError, match="is a table of folds, wanted oof"):
        read_parquet(tmp_path / "oof.parquet")


def test_other_programs_read_a_stamped_table(tmp_path: Path) -> None:
    path = tmp_path / "folds.parquet"
    write_parquet(path, TABLE)
    assert pl.read_parquet(path).equals(TABLE)
    stamp = pl.read_parquet_metadata(path)["cropfirst"]
    assert re.fullmatch(r"kind=folds;format=1;hash=[0-9a-f]{32}", stamp)


def test_rows_of_the_cache_without_a_stamp_are_refused(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, CROP_SCHEMA, kind="crops")
    manifest.append([{"key": "a"}])
    manifest.compact()
    assert f"kind=crops;format={FORMAT};".encode() in manifest.path.read_bytes()
    pl.read_parquet(manifest.path).write_parquet(manifest.path)
    with pytest.raises(CacheCorruptError, match="verify DATA --repair"):
        manifest.read()


@pytest.mark.parametrize("found", [0, FORMAT + 1, "2", None])
def test_caches_of_unknown_formats_are_refused(tmp_path: Path, found: object) -> None:
    (tmp_path / "cache.json").write_text(json.dumps({"format": found, "cropfirst": "9.9"}))
    with pytest.raises(CacheMismatchError, match=r"made by cropfirst 9\.9.*use that version"):
        Cache.open(tmp_path, create=True)


def test_crops_of_another_version_are_refused(tmp_path: Path) -> None:
    import numpy as np

    with CropWriter(tmp_path) as writer:
        writer.put("a", np.ones((4, 4, 3), np.uint8))
    path = tmp_path / "shard-000/data.mdb"
    path.write_bytes(path.read_bytes().replace(b"crop\x01", b"crop\x02"))
    with pytest.raises(CacheCorruptError, match="not one of this version"):
        CropReader(tmp_path)["a"]


@pytest.mark.parametrize("found", [0, 99, "1"])
def test_runs_and_checkpoints_of_unknown_formats_are_refused(tmp_path: Path, found: object) -> None:
    with pytest.raises(TrainError, match="train under another --name"):
        check_format({"format": found}, tmp_path / "run.json")
    check_format({}, tmp_path / "run.json")  # as they were before they had a number
    for name, read in (("meta.json", read_meta), ("state.json", load_state)):
        (tmp_path / name).write_text(json.dumps({"format": found}))
        with pytest.raises(TrainError, match="format"):
            read(tmp_path)
