"""A corpus of broken, odd and hostile photo files, drawn from a seed, and `detect` run over it.

    python tests/faults/broken_photos.py                 all of it, more than 2,000 files
    python tests/faults/broken_photos.py --share 0.1     every tenth file

Each good picture has a colour of its own, so that a row that shows another file's picture is found.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms

SIZE = (64, 48)
"""Width and height of the pictures."""
WHOLE, CUT, ANY, BAD = "whole", "cut", "any", "bad"
"""The wanted results: the picture; no picture, or nearly all of it; a row; no picture."""
LIMIT_MP = 20
FLAGS = (
    "--background", "photo", "--device", "cpu", "--set", "crop.image_size=32", "--set", "retry=[]",
    "--set", f"decode.max_megapixels={LIMIT_MP}", "--set", "decode.max_file_mb=8",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One file of the corpus."""

    name: str
    data: bytes
    want: str
    colour: tuple[int, int, int] = (0, 0, 0)
    """Mean colour of the picture."""


def picture(number: int) -> Image.Image:
    """A plain picture whose colour tells its number, with a lighter bar across."""
    red, green, blue = colour_of(number)
    pixels = np.full((SIZE[1], SIZE[0], 3), (red, green, blue), np.uint8)
    return Image.fromarray(pixels)


def colour_of(number: int) -> tuple[int, int, int]:
    """64 colours far apart."""
    red, green, blue = number % 4, number // 4 % 4, number // 16 % 4
    return 40 + 50 * red, 40 + 50 * green, 40 + 50 * blue


def grey_of(number: int) -> tuple[int, int, int]:
    """Return `picture(number)` in greys."""
    value = picture(number).convert("L").getpixel((5, 5))
    assert isinstance(value, int)
    return value, value, value


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_opencv(pixels: np.ndarray, ending: str) -> bytes:
    done, data = cv2.imencode(ending, pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    assert done, ending
    return data.tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(extra: bytes, number: int) -> bytes:
    data = encoded(picture(number), "PNG")
    return data[:33] + extra + data[33:]


def whole_files() -> Iterator[tuple[str, bytes, bool]]:
    """(name, bytes, whether the colour is kept) of every format, mode and oddity, all readable."""
    numbers = iter(range(10_000))

    def draw(mode: str = "RGB") -> Image.Image:
        return picture(next(numbers)).convert(mode)

    for mode in ("RGB", "L", "CMYK"):
        yield f"jpeg_{mode}.jpg", encoded(draw(mode), "JPEG", quality=95), True
    yield "progressive.jpg", encoded(draw(), "JPEG", quality=95, progressive=True), True
    yield "arithmetic_free.jpeg", encoded(draw(), "JPEG", quality=30, optimize=True), True
    for mode in ("RGB", "L", "RGBA", "P", "1", "LA", "I;16"):
        yield (
            f"png_{mode.replace(';', '')}.png",
            encoded(draw(mode), "PNG"),
            mode not in ("1", "I;16"),
        )
    yield "png_key.png", encoded(draw("P"), "PNG", transparency=200), True
    for mode in ("RGB", "RGBA"):
        yield f"webp_{mode}.webp", encoded(draw(mode), "WEBP", quality=95), True
        yield f"lossless_{mode}.webp", encoded(draw(mode), "WEBP", lossless=True), True
    for kind, ending in (("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png")):
        first = draw()
        more = [picture(number) for number in (7, 21, 40)]
        data = encoded(first, kind, save_all=True, append_images=more, duration=80, loop=0)
        yield f"animated_{ending}.{ending}", data, True
    for mode in ("P", "L"):
        yield f"gif_{mode}.gif", encoded(draw(mode), "GIF"), True
    for mode in ("RGB", "L", "P", "1"):
        yield f"bmp_{mode}.bmp", encoded(draw(mode), "BMP"), mode != "1"
    for mode in ("RGB", "L", "CMYK", "P", "RGBA", "LAB"):
        image = draw() if mode == "LAB" else draw(mode)
        if mode == "LAB":
            lab = ImageCms.createProfile("LAB")
            image = ImageCms.profileToProfile(
                image, ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
            )
        yield f"tiff_{mode}.tif", encoded(image, "TIFF"), mode != "LAB"
    for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"{how}.tiff", encoded(draw(), "TIFF", compression=how), True
    pages = [picture(number) for number in (3, 9)]
    yield "pages.tif", encoded(draw(), "TIFF", save_all=True, append_images=pages), True
    yield "picture.avif", encoded(draw(), "AVIF", quality=95), True
    yield "alpha.avif", encoded(draw("RGBA"), "AVIF", quality=95), True
    yield "picture.jp2", encoded(draw(), "JPEG2000"), True
    yield "code_stream.jp2", encoded(draw(), "JPEG2000", no_jp2=True), True
    for mode, ending in (("RGB", "ppm"), ("L", "pgm"), ("1", "pbm")):
        yield f"plain.{ending}", encoded(draw(mode), "PPM"), mode != "1"
    deep = np.asarray(draw()).astype(np.uint16) * 257
    for ending in ("png", "tif", "ppm", "jp2"):
        yield f"deep.{ending}", by_opencv(deep, f".{ending}"), True
        deep = np.asarray(draw()).astype(np.uint16) * 257
    for ending in ("ras", "sr", "pam"):
        name = "pam.png" if ending == "pam" else f"sun.{ending}"
        yield name, by_opencv(np.asarray(draw()), f".{ending}"), True
    yield "light.hdr", by_opencv(np.asarray(draw()), ".hdr"), False
    yield "float.pic", by_opencv(np.asarray(draw()).astype(np.float32) / 255, ".hdr"), False
    exif = Image.Exif()
    for turn in range(1, 9):
        exif[0x0112] = turn
        yield f"turned_{turn}.jpg", encoded(draw(), "JPEG", quality=95, exif=exif.tobytes()), True
        yield f"turned_{turn}.webp", encoded(draw(), "WEBP", quality=95, exif=exif.tobytes()), True
    exif[0x0112] = 99
    yield "turned_99.jpg", encoded(draw(), "JPEG", quality=95, exif=exif.tobytes()), True
    small = encoded(picture(50).resize((16, 12)), "JPEG")
    hidden = b"Exif\0\0" + small  # not EXIF at all, and holds a picture with its own end marker
    yield "thumbnail.jpg", encoded(draw(), "JPEG", quality=95, exif=hidden), True
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, icc in (("icc", profile), ("bad_icc", b"no profile" * 50)):
        for kind, ending in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")):
            yield f"{name}.{ending}", encoded(draw(), kind, icc_profile=icc), True
    two = [picture(30)]
    yield "mpo.jpg", encoded(draw(), "MPO", save_all=True, append_images=two), True
    yield "trailer.jpg", encoded(draw(), "JPEG", quality=95) + b"trailing bytes" * 9, True


@functools.cache
def wholes() -> list[tuple[str, bytes, bool, tuple[int, int, int]]]:
    """The whole files, with the mean colour that each must show."""
    found = []
    for name, data, kept in whole_files():
        found.append((name, data, kept, _mean_colour(name, data) if kept else (0, 0, 0)))
    return found


def _mean_colour(name: str, data: bytes) -> tuple[int, int, int]:
    if "deep" in name or "pam" in name:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert pixels is not None
    else:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB"))
    red, green, blue = pixels.reshape(-1, 3).mean(0).round().astype(int).tolist()
    return red, green, blue


def damaged(rng: np.random.Generator) -> Iterator[Case]:
    """Every whole file cut short, with flipped bits, with pieces lost, doubled or foreign."""
    for name, data, kept, colour in wholes():
        stem, _, ending = name.rpartition(".")
        for number, cut in enumerate(np.unique(rng.integers(1, len(data), 14))):
            yield Case(f"cut/{stem}_{number}.{ending}", data[:cut], CUT if kept else ANY, colour)
        for number in range(10):
            bits = bytearray(data)
            for place in rng.integers(0, len(data), 1 + number * number):
                bits[place] ^= 1 << int(rng.integers(8))
            yield Case(f"flip/{stem}_{number}.{ending}", bytes(bits), ANY)
        for number in range(6):
            start, stop = np.sort(rng.integers(0, len(data), 2))
            middle = (b"", bytes(stop - start), data[start:stop] * 2, rng.bytes(40))[number % 4]
            yield Case(f"lost/{stem}_{number}.{ending}", data[:start] + middle + data[stop:], ANY)
        for other in ("jpg", "png", "gif", "tif", "webp"):
            if other != ending:
                want = WHOLE if kept else ANY
                yield Case(f"ending/{stem}_{ending}.{other}", data, want, colour)


def bombs() -> Iterator[Case]:
    """Little files that promise, or are, much too much."""
    head = struct.Struct(">IIBBBBB")
    png = b"\x89PNG\r\n\x1a\n"
    end = chunk(b"IEND", b"")
    for side in (5_000, 30_000, 65_535, 2**31 - 1):
        idat = chunk(b"IDAT", zlib.compress(bytes(100_000)))
        ihdr = chunk(b"IHDR", head.pack(side, side, 8, 2, 0, 0, 0))
        yield Case(f"bomb/png_{side}.png", png + ihdr + idat + end, BAD)
    rows = zlib.compress(bytes(8_001) * 8_000, 9)
    ihdr = chunk(b"IHDR", head.pack(8_000, 8_000, 8, 0, 0, 0, 0))
    yield Case("bomb/png_real.png", png + ihdr + chunk(b"IDAT", rows) + end, BAD)
    text = zlib.compress(bytes(64_000_000), 9)
    for kind, before in ((b"zTXt", b"k\0\0"), (b"iCCP", b"p\0\0"), (b"iTXt", b"k\0\1\0\0\0")):
        data = png_with(chunk(kind, before + text), 11)
        yield Case(f"bomb/png_{kind.decode()}.png", data, ANY)
    jpeg = bytearray(encoded(picture(3), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    yield Case("bomb/jpeg.jpg", bytes(jpeg), BAD)
    big = encoded(Image.new("RGB", (4_000, 4_000), (9, 9, 9)), "JPEG", progressive=True)
    last = big.rindex(b"\xff\xda")
    scans = big[:last] + big[last:-2] * 5_000 + b"\xff\xd9"
    yield Case("bomb/jpeg_scans.jpg", scans, BAD)
    gif = bytearray(encoded(picture(3), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield Case("bomb/gif.gif", bytes(gif), BAD)
    bmp = bytearray(encoded(picture(3), "BMP"))
    for width, height in ((40_000, 40_000), (2**31 - 1, -(2**31)), (-5, 7), (0, 0)):
        bmp[18:26] = struct.pack("<ii", width, height)
        yield Case(f"bomb/bmp_{width}_{height}.bmp", bytes(bmp), BAD)
    for name, data in {
        "pam": b"P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\nxx",
        "ppm": b"P6\n60000 60000\n255\nxx",
        "pfm": b"PF\n60000 60000\n-1.0\nxx",
        "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\nxx",
        "digits": b"P6\n" + b"9" * 200_000 + b" 1\n255\nxx",
        "sun": struct.pack(">8I", 0x59A66A95, 60_000, 60_000, 24, 0, 1, 0, 0) + b"xx",
    }.items():
        yield Case(f"bomb/{name}.png", data, BAD)
    tiff = encoded(picture(3), "TIFF")
    for name, (tag, value) in {
        "wide": (256, 60_000),
        "high": (257, 2**31),
        "none": (256, 0),
    }.items():
        yield Case(f"bomb/tiff_{name}.tif", _with_tag(tiff, tag, value), BAD)
    loop = bytearray(tiff)
    first = struct.unpack_from("<I", tiff, 4)[0]
    count = struct.unpack_from("<H", tiff, first)[0]
    struct.pack_into("<I", loop, first + 2 + 12 * count, first)  # the next page is this page
    yield Case("bomb/tiff_loop.tif", bytes(loop), ANY)


def _with_tag(tiff: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with another value of one tag."""
    data = bytearray(tiff)
    first = struct.unpack_from("<I", data, 4)[0]
    for number in range(struct.unpack_from("<H", data, first)[0]):
        place = first + 2 + 12 * number
        if struct.unpack_from("<H", data, place)[0] == tag:
            struct.pack_into("<HII", data, place + 2, 4, 1, value)
    return bytes(data)


def no_photos(rng: np.random.Generator) -> Iterator[Case]:
    """Make files that are no photos at all, called photos."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch hacked) (w) file\n%%EOF\n"
    contents = {
        "empty": b"", "zero": b"\0", "zeros": bytes(5_000), "text": b"hello", "eps": eps,
        "html": b"<!doctype html><p>not found", "zip": b"PK\3\4" + rng.bytes(300),
        "pdf": b"%PDF-1.7\n" + rng.bytes(300), "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pickle": b"\x80\x04cposix\nsystem\n(S'touch hacked'\ntR.", "xpm": b"/* XPM */\n" * 40,
        "dib": struct.pack("<III", 40, 64, 64) + bytes(500), "tga": b"\0\0\2" + bytes(600),
    }  # fmt: skip
    for name, data in contents.items():
        for ending in ("jpg", "png", "tif"):
            yield Case(f"none/{name}.{ending}", data, BAD)
    magics = (
        b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"P6\n",
        b"RIFF\xff\xff\0\0WEBPVP8 ", b"\0\0\0\x1cftypavif", b"\0\0\0\x0cjP  \r\n\x87\n",
        b"\x59\xa6\x6a\x95", b"#?RADIANCE\n", b"PF\n", b"P7\n", b"\xff\x4f\xff\x51", b"II+\0",
    )  # fmt: skip
    for number, magic in enumerate(magics):
        for length in (0, 1, 9, 40, 400, 9_000):
            yield Case(f"none/magic_{number}_{length}.jpg", magic + rng.bytes(length), ANY)


def named() -> Iterator[Case]:
    """Good photos under hard names."""
    names = (
        "übung ✓ 写真 صورة.png", "e\u0301.png", "é.png", "a b\n.png", "-rf.png", "[a]*?.png",
        "x" * 251 + ".png", "d/" * 400 + "deep.png", "'\"`$(touch hacked);.png", "caf\udce9.png",
        "%s.png", "\u202egnp.png", "CON.png", "a\\b.png",
    )  # fmt: skip
    for number, name in enumerate(names):
        yield Case(f"names/{name}", encoded(picture(number), "PNG"), WHOLE, colour_of(number))


def corpus(seed: int, share: float = 1.0) -> list[Case]:
    """All cases, or an even share of them."""
    rng = np.random.default_rng(seed)
    good = [
        Case(f"whole/{name}", data, WHOLE if kept else ANY, colour)
        for name, data, kept, colour in wholes()
    ]
    most = [*good, *damaged(rng), *no_photos(rng)]
    step = round(1 / share)
    return [*most[:: max(step, 1)], *bombs(), *named()]


def write_corpus(root: Path, cases: list[Case]) -> list[str]:
    """Write the cases, and what no bytes can be; returns the keys of the latter that are photos."""
    for case in cases:
        path = root / case.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.data)
    odd = root / "odd"
    odd.mkdir()
    (odd / "folder.jpg").mkdir()
    os.mkfifo(odd / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(odd)  # a socket's path may have no more than 107 bytes
        server.bind("socket.jpg")
        os.chdir(here)
    links = {
        "self.jpg": "self.jpg", "ping.jpg": "pong.jpg", "pong.jpg": "ping.jpg",
        "nowhere.jpg": "nothing", "zero.jpg": "/dev/zero", "to_pipe.jpg": "pipe.jpg",
        "to_folder.jpg": "folder.jpg", "up": "..",
    }  # fmt: skip
    for name, target in links.items():
        (odd / name).symlink_to(target)
    return [f"odd/{name}" for name in links if name not in ("to_folder.jpg", "up")]


@dataclass
class Outcome:
    """The results of the corpus."""

    files: int
    kinds: Counter[str]
    faults: list[str]
    seconds: float
    peak_mb: float
    text: str


class Churn(threading.Thread):
    """Files that vanish, grow, shrink and change while they are read."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(daemon=True)
        self.paths = [folder / f"{number:03d}.png" for number in range(count)]
        self.stop = threading.Event()
        folder.mkdir(parents=True)
        self.versions = [encoded(picture(number), "PNG") for number in (1, 22, 43)]
        for path in self.paths:
            path.write_bytes(self.versions[0])

    def run(self) -> None:
        rng = np.random.default_rng(0)
        while not self.stop.is_set():
            path = self.paths[int(rng.integers(len(self.paths)))]
            data = self.versions[int(rng.integers(3))]
            what = int(rng.integers(4))
            if what == 0:
                path.unlink(missing_ok=True)
            elif what == 1:
                path.write_bytes(data[: len(data) // 2])
            else:
                path.write_bytes(data)
            time.sleep(0.001)


def run_corpus(folder: Path, *, seed: int = 0, share: float = 1.0, timeout: float = 900) -> Outcome:
    """Write the corpus below a folder, run `detect` over it, hold every row against its file."""
    data, work = folder / "data", folder / "work"
    cases = corpus(seed, share)
    odd = write_corpus(data, cases)
    churn = Churn(data / "churn", 40)
    command = [sys.executable, "-m", "cropfirst.cli", "detect", str(data), "--layout", "photos"]
    started = time.monotonic()
    churn.start()
    done = subprocess.run(
        [*command, "--work", str(work), *FLAGS],
        capture_output=True, text=True, timeout=timeout, errors="replace",
    )  # fmt: skip
    churn.stop.set()
    churn.join()
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    if done.returncode != 0:
        faults = [f"detect ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"]
        return Outcome(len(cases), Counter(), faults, seconds, peak, done.stdout)
    kinds, faults = check_rows(data, work, cases, odd, [path.name for path in churn.paths])
    if list(folder.rglob("hacked")) or Path("hacked").exists():
        faults.append("a file's content was run as a program")
    return Outcome(len(cases) + len(odd) + 40, kinds, faults, seconds, peak, done.stdout)


def check_rows(
    data: Path, work: Path, cases: list[Case], odd: list[str], churned: list[str]
) -> tuple[Counter[str], list[str]]:
    """Statuses and errors by kind of case, and what is wrong with them."""
    from cropfirst.cache import Cache
    from cropfirst.core.fingerprint import content_hash

    crops = Cache.open(work / "cache").find()
    rows = {row["key"]: row for row in crops.manifest.read().to_dicts()}
    reader, faults, kinds = crops.reader(), [], Counter[str]()
    keys = {case.name.encode("utf-8", "backslashreplace").decode(): case for case in cases}
    wanted = {*keys, *odd, *(f"churn/{name}" for name in churned)}
    gone = {f"churn/{name}" for name in churned} - set(rows)  # not there when it was listed
    if set(rows) != wanted - gone:
        faults.append(f"rows differ: {sorted(set(rows) ^ (wanted - gone))[:5]}")
    for key, row in sorted(rows.items()):
        kind = key.partition("/")[0]
        kinds[f"{kind}: {row['error_type'] or 'decoded'}"] += 1
        case = keys.get(key)
        if case is None:
            if key in odd and row["status"] != "unreadable":
                faults.append(f"{key} has a picture")
            continue
        if row["status"] != "unreadable" and row["content_hash"] != content_hash(case.data):
            faults.append(f"{key}: the row is of other bytes")
        fault = _picture_fault(case, row["status"], reader[key] if row["crop_hash"] else None)
        if fault:
            faults.append(f"{key}: {fault} ({row['error_type']}: {row['error']})")
    return kinds, faults


def _picture_fault(case: Case, status: str, crop: np.ndarray | None) -> str | None:
    if case.want == WHOLE and crop is None:
        return "a whole photo was refused"
    if case.want == BAD and crop is not None:
        return "was taken for a photo"
    if crop is not None and case.want in (WHOLE, CUT):
        # The picture fills the middle of the square crop, 32 x 24 or, turned, 24 x 32 of it.
        off = np.abs(crop[5:27, 5:27].astype(int) - case.colour).max(2)
        share = float((off > 40).mean())
        return f"shows another picture in {share:.0%} of its pixels" if share > 0.02 else None
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        outcome = run_corpus(asked.out or Path(temporary), seed=asked.seed, share=asked.share)
    for kind, count in sorted(outcome.kinds.items()):
        print(f"{count:6d}  {kind}")
    print(f"{outcome.files} files, {outcome.seconds:.1f} s, peak {outcome.peak_mb:.0f} MB")
    for fault in outcome.faults:
        print(f"FAULT {fault}")
    sys.exit(bool(outcome.faults))


if __name__ == "__main__":
    main()
