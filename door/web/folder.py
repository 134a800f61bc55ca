"""The page as a folder that any static server hosts.

The folder holds the page's code, ONNX Runtime Web (unpacked from this package, so that no network
is needed), and a copy of the bundle's manifest and networks. `files.js` in it lists the hash of
every file; the page checks each and keeps it, so that it works offline after the first visit.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import shutil
import tempfile
from pathlib import Path

from cropfirst.core.errors import BundleError
from cropfirst.door.bundle import read_files, read_manifest
from cropfirst.door.manifest import MANIFEST

_HERE = Path(__file__).parent
_VENDOR = "onnxruntime-web.json"
BACKGROUNDS = ("ellipse", "box")
"""Backgrounds of crops that the page can cut."""
INDEX = "index.html"
"""Name of a page in its folder."""
SHARED = ("elements.js", "icon.svg", "strings.js", "style.css")
"""Files of the page that runs a bundle which the page that labels crops has, too."""
LISTED = "files.js"
"""Name of the list of all other files of the folder, with their hashes."""
NOT_LISTED = ("service-worker.js", LISTED)
"""Files that the browser has to ask the server for, to see that there is a newer folder."""


def policy_of(index: bytes) -> str:
    """Return the Content-Security-Policy of a page: files of its own server alone."""
    found = re.search(rb'"Content-Security-Policy" content="([^"]+)"', index)
    assert found is not None
    return found[1].decode()


def page_files(bundle: Path) -> dict[str, bytes]:
    """Return the page's files for a bundle: path within the folder -> content.

    Args:
        bundle: folder that `export` has written.

    Raises:
        BundleError: the page cannot run this bundle, or a file differs from its hash.
    """
    manifest = read_manifest(bundle)
    check_background(manifest.crop.background)
    content = read_files(bundle, manifest)
    files = {path.name: path.read_bytes() for path in sorted((_HERE / "static").iterdir())}
    files |= _unpack_runtime()
    files[f"bundle/{MANIFEST}"] = (bundle / MANIFEST).read_bytes()
    files |= {f"bundle/{name}": content[name] for name in manifest.networks}
    hashes = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in sorted(files.items())
        if name not in NOT_LISTED
    }
    version = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:16]
    listed = json.dumps({"version": version, "files": hashes}, indent=1)
    files[LISTED] = f"self.FOLDER = {listed};\n".encode()
    return files


def review_files() -> dict[str, bytes]:
    """Return the files of the page that labels crops: name -> content. It needs a server."""
    own = {path.name: path.read_bytes() for path in sorted((_HERE / "review").iterdir())}
    return {**own, **{name: (_HERE / "static" / name).read_bytes() for name in SHARED}}


def write_page(bundle: Path, target: Path, *, force: bool = False) -> Path:
    """Write the page for a bundle into a folder, completely or not at all.

    Args:
        bundle: folder that `export` has written.
        target: folder to write; must not exist, or be empty.
        force: replace a page that is there.

    Returns:
        The page, `index.html` in that folder.

    Raises:
        BundleError: the folder has other files, or `page_files` refuses the bundle.
    """
    check_target(target, force=force)
    files = page_files(bundle)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name, content in files.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        work.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target / INDEX


def check_background(background: str) -> None:
    """Check that the page can cut a bundle's crops.

    Raises:
        BundleError: it cannot cut crops with this background.
    """
    if background not in BACKGROUNDS:
        raise BundleError(
            f"the page cuts crops with the background {' or '.join(BACKGROUNDS)}, and this "
            f"bundle's are {background!r}: train on such crops, or use the bundle in Python"
        )


def check_target(target: Path, *, force: bool) -> None:
    """Check that a page may be written to a folder.

    Raises:
        BundleError: it has files, and they are not those of a page that `force` replaces.
    """
    is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not is_free and not (force and (target / LISTED).is_file()):
        raise BundleError(
            f"the folder of the page must be new or empty, and {target} is not: choose another "
            "--web, or replace a page with --force"
        )


def _unpack_runtime() -> dict[str, bytes]:
    """Return ONNX Runtime Web and its licence by file name, checked against their hashes."""
    vendor = _HERE / "vendor"
    listed = json.loads((vendor / _VENDOR).read_text("utf-8"))
    files = {name: (vendor / name).read_bytes() for name in (_VENDOR, listed["licence_file"])}
    for name, wanted in listed["files"].items():
        content = lzma.decompress((vendor / f"{name}.xz").read_bytes())
        if hashlib.sha256(content).hexdigest() != wanted["sha256"]:
            raise BundleError(f"{vendor / name}.xz is not the file that was packed: install again")
        files[name] = content
    return files
