"""Every kind of file: an upright RGB array, or a named fault."""

from __future__ import annotations

import io
import os
import resource
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFile

from cropfirst.core import decode as decoding
from cropfirst.core.decode import ReadError
from cropfirst.stage1_detect.config import DecodeConfig
from cropfirst.stage1_detect.photos.read import may_pass, read_photo, stat_photo


def decode(data: bytes, limits: DecodeConfig | None = None) -> np.ndarray:
    return decoding.decode(data, limits or DecodeConfig())


def _scene(height: int = 40, width: int = 60) -> np.ndarray:
    """Red left, blue right, a white bar on top: every mistake in channels or turning shows."""
    scene = np.zeros((height, width, 3), dtype=np.uint8)
    scene[:, : width // 2, 0] = 200
    scene[:, width // 2 :, 2] = 200
    scene[: height // 4] = 255
    return scene


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _close(got: np.ndarray, wanted: np.ndarray, *, most: float = 12) -> None:
    assert got.shape == wanted.shape and got.dtype == np.uint8
    assert np.abs(got.astype(int) - wanted).mean() < most


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("PNG", "RGB"),
        ("BMP", "RGB"),
        ("TIFF", "RGB"),
        ("WEBP", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("GIF", "P"),
        ("JPEG", "CMYK"),
        ("TIFF", "CMYK"),
    ],
)
def test_formats_and_modes_come_out_as_rgb(kind: str, mode: str) -> None:
    image = Image.fromarray(_scene()).convert(mode)
    _close(decode(_encode(image, kind)), _scene())


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_comes_out_as_three_equal_channels(kind: str) -> None:
    grey = Image.fromarray(_scene()).convert("L")
    got = decode(_encode(grey, kind))
    _close(got, np.repeat(np.array(grey)[..., None], 3, axis=2))
    assert (got[..., 0] == got[..., 2]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_to_8(channels: int) -> None:
    scene = _scene()[..., 0] if channels == 1 else _scene()
    ok, data = cv2.imencode(".png", scene[..., ::-1].astype(np.uint16) * 257 if channels == 3
                            else scene.astype(np.uint16) * 257)  # fmt: skip
    assert ok
    wanted = np.repeat(scene[..., None], 3, axis=2) if channels == 1 else scene
    _close(decode(data.tobytes()), wanted, most=1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_bits_that_are_used_of_16_are_scaled_to_8(bits: int, kind: str) -> None:
    """A camera's 12 bits stored in 16 would be a nearly black photo."""
    grey = _scene()[..., 0].astype(np.uint32)
    samples = grey * ((1 << bits) - 1) // 255
    samples[0, 0] = (1 << bits) - 1
    got = decode(_encode(Image.fromarray(samples.astype(np.uint16)), kind))
    _close(got[1:, :, 0], grey[1:].astype(np.uint8), most=1)


def test_the_programs_warnings_are_left_as_they_were() -> None:
    before = [entry for entry in warnings.filters if "PIL" not in str(entry)]
    decode(_encode(Image.fromarray(_scene()), "PNG"))
    assert [entry for entry in warnings.filters if "PIL" not in str(entry)] == before
    with pytest.warns(UserWarning, match="of another package"):
        warnings.warn("of another package", UserWarning, stacklevel=1)


def test_transparency_is_laid_over_white() -> None:
    rgba = np.dstack([_scene(), np.zeros((40, 60), np.uint8)])
    got = decode(_encode(Image.fromarray(rgba), "PNG"))
    assert (got == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("WEBP", "RGB"), ("TIFF", "RGB"),
     ("AVIF", "RGB"), ("HEIF", "RGB")],
)  # fmt: skip
def test_exif_orientation_is_applied(orientation: int, kind: str, mode: str) -> None:
    """Stored so that a viewer shows the scene upright; CMYK takes the other decoder."""
    if kind == "HEIF":
        pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
        pillow_heif.register_heif_opener()
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = Image.fromarray(_scene()).convert(mode)
    stored = stored if undo is None else stored.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encode(stored, kind, exif=exif.tobytes(), quality=95)
    _close(decode(data), _scene())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated_files_are_refused_at_every_length(kind: str) -> None:
    """A half-decoded photo must not pass as a photo: OpenCV alone would fill it up with grey."""
    rng = np.random.default_rng(0)
    data = _encode(Image.fromarray(rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)), kind)
    for share in (0.05, 0.2, 0.5, 0.8, 0.97):
        with pytest.raises(ReadError):
            decode(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    "data", [b"hello, no image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a"]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ReadError):
        decode(data)


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ReadError, match="no bytes") as caught:
        read_photo(tmp_path / "empty.jpg")
    assert caught.value.kind == "EmptyFile"


def test_a_bomb_is_refused_from_its_header_alone() -> None:
    """A PNG of 50,000 x 50,000 in a few bytes: its header is read, its pixels never are."""
    chunks = [
        b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(b"\0" * 1000),
    ]
    data = b"\x89PNG\r\n\x1a\n"
    for chunk in chunks:
        data += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ReadError, match="2500 megapixels, the limit is 200") as caught:
        decode(data)
    assert caught.value.kind == "TooManyPixels"


def test_limits_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(_encode(Image.fromarray(_scene(1000, 1200)), "PNG"))
    assert read_photo(path).image.shape == (1000, 1200, 3)
    with pytest.raises(ReadError, match=r"max_megapixels"):
        read_photo(path, DecodeConfig(max_megapixels=1.0))
    with pytest.raises(ReadError, match=r"max_file_mb"):
        read_photo(path, DecodeConfig(max_file_mb=1e-6))


def test_missing_files_folders_and_pipes_are_refused_without_hanging(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    kinds = {}
    for name in ("missing.jpg", "folder.jpg", "pipe.jpg", "loop.jpg"):
        with pytest.raises(ReadError) as caught:
            stat_photo(tmp_path / name)
        kinds[name] = caught.value.kind
    assert kinds["missing.jpg"] == "FileNotFoundError"
    assert kinds["folder.jpg"] == kinds["pipe.jpg"] == "NotAFile"
    assert kinds["loop.jpg"] == "OSError"


def test_equal_bytes_have_equal_hashes(tmp_path: Path) -> None:
    data = _encode(Image.fromarray(_scene()), "PNG")
    for name in ("a.png", "ä ø 写真.png"):
        (tmp_path / name).write_bytes(data)
    first, second = (read_photo(path) for path in sorted(tmp_path.iterdir()))
    assert first.content_hash == second.content_hash
    assert (first.image == second.image).all()


def test_a_progressive_jpeg_of_endless_scans_is_refused(tmp_path: Path) -> None:
    """Each of its scans is a pass over all pixels, for twenty bytes."""
    data = _encode(Image.fromarray(_scene(400, 600)), "JPEG", progressive=True)
    assert decode(data).shape == (400, 600, 3)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 3_000 + b"\xff\xd9"
    with pytest.raises(ReadError, match=r"scans, the limit is 100 .*max_scans") as caught:
        decode(bomb)
    assert caught.value.kind == "TooManyScans"


def test_pixels_that_are_fractions_are_refused_not_guessed_at() -> None:
    data = _encode(Image.fromarray(np.full((20, 20), 0.5, np.float32)), "TIFF")
    with pytest.raises(ReadError) as caught:
        decode(data)
    assert caught.value.kind == "FloatPixels"


@pytest.mark.parametrize("ending", [".pam", ".hdr", ".pfm"])
def test_what_opencv_alone_reads_keeps_its_limits(ending: str) -> None:
    kind = np.uint8 if ending == ".pam" else np.float32
    scene = (_scene() / (1 if kind is np.uint8 else 255)).astype(kind)
    done, data = cv2.imencode(ending, scene[..., ::-1])
    assert done
    assert decode(data.tobytes()).shape == (40, 60, 3)
    with pytest.raises(ReadError, match="megapixels, the limit is"):
        decode(data.tobytes(), DecodeConfig(max_megapixels=0.001))


def test_formats_that_run_programs_are_not_even_opened() -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n9 9 moveto\n%%EOF\n"
    assert Image.open(io.BytesIO(eps)).format == "EPS", "Pillow would"
    with pytest.raises(ReadError) as caught:
        decode(eps)
    assert caught.value.kind == "NotAnImage"


def test_a_file_that_grows_while_it_is_read(tmp_path: Path) -> None:
    path, data = tmp_path / "growing.png", _encode(Image.fromarray(_scene()), "PNG")
    path.write_bytes(data)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"more")
                file.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    kinds = set()
    try:
        end = time.monotonic() + 120
        while not kinds and time.monotonic() < end:  # how soon they meet is the system's business
            try:
                read_photo(path)
            except ReadError as error:
                kinds.add(error.kind)
    finally:
        stop.set()
        writer.join()
    assert kinds == {"Changed"}


@pytest.mark.parametrize("mode", ["RGB", "LA"])
def test_a_png_of_chunks_without_end_takes_no_memory(mode: str) -> None:
    """OpenCV would take the four gigabytes that a chunk's head promises, then find no bytes."""
    data = bytearray(_encode(Image.fromarray(_scene()).convert(mode), "PNG"))
    place = data.index(b"IDAT") - 4
    data[place : place + 4] = b"\xfd\0\0\0"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert decode(bytes(data)).shape == (40, 60, 3), "its pixels are all there"
    with pytest.raises(ReadError):
        decode(bytes(data[: place + 40]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_gif_that_grows_with_its_first_frame_takes_no_memory() -> None:
    """A small screen, and a frame far outside: Pillow makes room for both when it opens it."""
    frame = b"," + struct.pack("<HHHHB", 60_000, 50_000, 20_000, 30_000, 0) + b"\x02\x02L\x01\0"
    data = b"GIF89a" + struct.pack("<HHBBB", 64, 48, 0x80, 0, 0) + bytes(6) + frame + b";"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ReadError) as caught:
        decode(data)
    assert caught.value.kind == "TooManyPixels"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_large_photos_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes several times its pixels; two at once may be more than there is memory for."""
    at_work: list[int] = []
    most: list[int] = []
    imdecode = cv2.imdecode

    def slow(*arguments: Any) -> Any:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.05)
        at_work.pop()
        return imdecode(*arguments)

    monkeypatch.setattr(decoding.cv2, "imdecode", slow)
    data = _encode(Image.fromarray(_scene()), "PNG")
    for limit, together in ((10_000_000, True), (1000, False)):
        monkeypatch.setattr(decoding, "LARGE_PIXELS", limit)
        most.clear()
        with ThreadPoolExecutor(4) as pool:
            images = list(pool.map(decode, [data] * 4))
        assert all((image == images[0]).all() for image in images)
        assert (max(most) > 1) == together, f"{max(most)} at once"


def test_too_little_memory_is_a_fault_that_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(ReadError, match="too little memory") as caught:
        decode(_encode(Image.new("CMYK", (8, 8)), "JPEG"))
    assert may_pass(caught.value.kind)
    assert not any(map(may_pass, ("Undecodable", "NotAnImage", "ValueError", "print")))
