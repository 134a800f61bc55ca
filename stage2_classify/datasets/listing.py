"""List the photographs under a folder in one pass, and turn file names into keys.

Hidden files are left out, each real folder is entered once (symlink loops end there), and what
cannot be read becomes a problem instead of an exception. Knows nothing of layouts or labels.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cropfirst.core.errors import DataError
from cropfirst.core.files import MARKER
from cropfirst.stage2_classify.datasets.sample import Problem
from cropfirst.stage2_classify.datasets.unread import may_have_labels

# fmt: off
PHOTO_EXTENSIONS = frozenset((
    "jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "jp2", "png", "bmp", "dib", "tif", "tiff", "webp",
    "ppm", "pgm", "pbm", "pnm", "sr", "ras", "hdr", "exr", "pic", "avif", "gif",
))
OTHER_IMAGES = frozenset((
    "heic", "heif", "hif", "jxl", "svg", "psd", "xcf", "ico", "tga", "dng", "cr2", "cr3", "nef",
    "arw", "orf", "rw2", "raf", "raw",
))
# fmt: on
"""Extensions of images that are not read; they are counted."""
HEIF = frozenset(("heic", "heif", "hif"))
"""Extensions of HEIF images: they are read where the package pillow-heif is installed."""
_OWN_FILES = frozenset((MARKER, "cache.json", "run.json"))
"""Files that cropfirst writes into the folders of its results."""
_NO_IMAGES = frozenset((
    "csv", "tsv", "txt", "json", "jsonl", "xml", "yaml", "yml", "md", "html", "pdf", "zip", "gz",
    "py", "mat", "npy",
))  # fmt: skip
"""Extensions whose files are not opened to see whether they are images."""
_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP"
)  # fmt: skip


@dataclass(frozen=True)
class Listing:
    """The photos under a folder: (key, path on disk), sorted by key."""

    photos: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...]
    not_taken: Mapping[str, int] = field(default_factory=dict)
    """Extension -> number of files that look like images and are not among the photos."""
    not_read: tuple[str, ...] = ()
    """Keys of files that may have labels."""


def is_photo(name: str) -> bool:
    """Return whether a file name is that of a photo: a known extension, and not hidden."""
    stem, _, extension = name.rpartition(".")
    return bool(stem) and stem[0] != "." and extension.lower() in photo_extensions()


@cache
def photo_extensions() -> frozenset[str]:
    """Return the extensions of the images that can be read here."""
    return PHOTO_EXTENSIONS | (HEIF if find_spec("pillow_heif") else frozenset())


def as_key(name: str) -> str:
    r"""Return a file name as valid UTF-8; bytes that are not become `\udcXX`, always the same."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def list_photos(root: Path, folder: str = "") -> Listing:
    """List every photo below `root/folder`; keys are relative to `root`.

    A link to a file counts as a photo even where it leads nowhere: stage 1 records it.
    """
    walk = _Walk()
    walk.run(os.path.join(root, folder) if folder else os.fspath(root), folder)
    walk.photos.sort()
    return Listing(
        tuple(walk.photos), tuple(walk.problems), walk.not_taken, tuple(walk.labels_beside())
    )


def subfolders(folder: Path) -> list[str]:
    """Return the visible folders inside a folder, sorted; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not e.name.startswith(".") and _is_dir(e))
    except OSError:
        return []


def only_folder(listing: Listing) -> str | None:
    """Return the top folder that has all photos of a folder; None where there is none.

    Nor is there one where files that may have labels are outside of it.
    """
    tops = {key.partition("/")[0] for key, _ in listing.photos}
    if len(tops) != 1 or any("/" not in key for key, _ in listing.photos):
        return None
    top = next(iter(tops))
    return top if all(file.startswith(f"{top}/") for file in listing.not_read) else None


def inside(root: Path, text: str, *, where: str) -> str:
    """Return the key of a path that a table names.

    Args:
        where: table and row, for the message.

    Raises:
        DataError: the path is empty or leaves the data set's folder.
    """
    path = text
    if posixpath.isabs(path) or re.match(r"[A-Za-z]:[\\/]", path):
        absolute = Path(path)
        for known in (absolute, absolute.parent.resolve() / absolute.name):
            if known.is_relative_to(root):
                path = known.relative_to(root).as_posix()
                break
        else:
            raise DataError(f"{where}: {text!r} lies outside of {root}; paths are relative to it")
    path = posixpath.normpath(path)
    if path == ".." or path.startswith("../"):
        raise DataError(f"{where}: {text!r} leaves {root}; move the photo or the table")
    if path == "." or "\0" in path:
        raise DataError(f"{where}: {text!r} names no photo")
    return path


def image_extension(entry: os.DirEntry[str]) -> str | None:
    """Return the extension of a file that looks like an image, by its name or its first bytes.

    A file without an extension that is an image gives "(none)"; what is no image gives None.
    """
    extension = entry.name.rpartition(".")[2].lower() if "." in entry.name else ""
    if extension in OTHER_IMAGES:
        return f".{extension}"
    if extension in _NO_IMAGES:
        return None
    try:
        if not entry.is_file():
            return None
        with open(entry.path, "rb") as file:
            start = file.read(16)
    except OSError:
        return None
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    if start.startswith(_SIGNATURES) or webp or (start[4:8] == b"ftyp" and b"heic" in start[8:]):
        return f".{extension}" if extension else "(none)"
    return None


class _Walk:
    def __init__(self) -> None:
        self.photos: list[tuple[str, str]] = []
        self.problems: list[Problem] = []
        self.not_taken: Counter[str] = Counter()
        self._may_have_labels: list[str] = []
        self._own_tops: set[str] = set()
        self._seen: set[tuple[int, int]] = set()
        self._links: deque[tuple[str, str]] = deque()

    def run(self, path: str, prefix: str) -> None:
        # Links to folders come last, so that a photo keeps the key of its real place.
        self._links.append((path, prefix))
        while self._links:
            start, key = self._links.popleft()
            stack = [(start, key)]
            while stack:
                stack.extend(self._enter(*stack.pop()))

    def labels_beside(self) -> list[str]:
        """Return the files that may have labels, without those beside results of cropfirst."""
        tops = self._own_tops - {key.partition("/")[0] for key, _ in self.photos}
        files = sorted(self._may_have_labels)
        return [file for file in files if file.partition("/")[0] not in tops]

    def _enter(self, path: str, prefix: str) -> list[tuple[str, str]]:
        try:
            stat = os.stat(path)
            if (stat.st_dev, stat.st_ino) in self._seen:
                self._report(prefix, "links to a folder that is listed already; left out")
                return []
            self._seen.add((stat.st_dev, stat.st_ino))
            with os.scandir(path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._report(prefix or path, f"the folder cannot be read ({_reason(error)}); left out")
            return []
        if prefix and any(entry.name in _OWN_FILES for entry in found):
            self._own_tops.add(as_key(prefix).partition("/")[0])
        # Only below the data set's own folder, which may be where the results are, too.
        if prefix and any(entry.name == MARKER for entry in found):
            self._report(prefix, "was made by cropfirst; left out")
            return []
        folders: list[tuple[str, str]] = []
        for entry in found:
            if entry.name.startswith("."):
                continue
            key = f"{prefix}/{entry.name}" if prefix else entry.name
            if _is_dir(entry):
                (self._links if entry.is_symlink() else folders).append((entry.path, key))
            elif is_photo(entry.name):
                self._add(entry, key)
            elif may_have_labels(entry.name):
                self._may_have_labels.append(as_key(key))
            elif (extension := image_extension(entry)) is not None:
                self.not_taken[extension] += 1
        return folders

    def _add(self, entry: os.DirEntry[str], key: str) -> None:
        if not (entry.is_symlink() or entry.is_file()):
            self._report(key, "is a pipe, socket or device, not a file; left out")
            return
        safe = as_key(key)
        if safe != key:
            self._report(safe, "the name on disk is not valid UTF-8; this is its key")
        self.photos.append((safe, entry.path))

    def _report(self, where: str, message: str) -> None:
        self.problems.append(Problem(as_key(where), message))


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
