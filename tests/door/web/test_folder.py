"""The page as a folder: its files, their hashes, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from drawn_bundle import change_manifest

from cropfirst.core.errors import BundleError
from cropfirst.door.web import folder as page
from cropfirst.door.web.folder import page_files, write_page

pytestmark = pytest.mark.slow


def listed_files(folder: Path) -> dict[str, str]:
    text = (folder / "files.js").read_text("utf-8")
    return dict(json.loads(text.removeprefix("self.FOLDER = ").rstrip().rstrip(";"))["files"])


def test_the_folder_lists_every_file_by_its_hash(page_folder: Path) -> None:
    listed = listed_files(page_folder)
    found = {path.relative_to(page_folder).as_posix() for path in page_folder.rglob("*.*")}
    assert found - {"service-worker.js", "files.js"} == set(listed)
    for name, wanted in listed.items():
        assert hashlib.sha256((page_folder / name).read_bytes()).hexdigest() == wanted, name
    assert {"index.html", "bundle/manifest.json", "bundle/classifier-0.onnx",
            "LICENSE-onnxruntime.txt"} <= set(listed)  # fmt: skip
    assert not any("golden" in name for name in listed)


def test_no_file_of_the_page_names_another_server(page_folder: Path) -> None:
    for path in page_folder.glob("*"):
        if path.suffix in (".js", ".html", ".css") and not path.name.startswith("ort."):
            text = path.read_text("utf-8")
            assert "http://" not in text and "https://" not in text, path.name


def test_it_is_packed_small() -> None:
    vendor = Path(page.__file__).parent / "vendor"
    assert sum(path.stat().st_size for path in vendor.iterdir()) < 4e6


def test_a_folder_with_files_is_not_written_to(bundle_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page/mine.txt").write_text("x")
    with pytest.raises(BundleError, match="must be new or empty"):
        write_page(bundle_folder, tmp_path / "page")
        write_page(bundle_folder, tmp_path / "page")
    with pytest.raises(BundleError, match="must be new or empty"):
        write_page(bundle_folder, tmp_path / "page", force=True)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["mine.txt"]


def test_force_replaces_a_page(bundle_folder: Path, tmp_path: Path) -> None:
    write_page(bundle_folder, tmp_path / "page")
    (tmp_path / "page/old.txt").write_text("x")
    with pytest.raises(BundleError, match="--force"):
        write_page(bundle_folder, tmp_path / "page")
    write_page(bundle_folder, tmp_path / "page", force=True)
    assert not (tmp_path / "page/old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_crops_that_the_page_cannot_cut_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(bundle_folder, tmp_path / "bundle")
    change_manifest(bundle, crop__background="segment")
    with pytest.raises(BundleError, match=r"ellipse or box, and this bundle's are 'segment'"):
        write_page(bundle, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_a_changed_network_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(bundle_folder, tmp_path / "bundle")
    (bundle / "pnet.onnx").write_bytes((bundle / "pnet.onnx").read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"pnet\.onnx is not the file"):
        page_files(bundle)


def test_a_changed_runtime_is_refused(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(page.__file__).parent
    shutil.copytree(here / "static", tmp_path / "static")
    shutil.copytree(here / "vendor", tmp_path / "vendor")
    shutil.copy(tmp_path / "vendor/ort.wasm.bundle.min.js.xz",
                tmp_path / "vendor/ort-wasm-simd-threaded.wasm.xz")  # fmt: skip
    monkeypatch.setattr(page, "_HERE", tmp_path)
    with pytest.raises(BundleError, match="install again"):
        page_files(bundle_folder)
