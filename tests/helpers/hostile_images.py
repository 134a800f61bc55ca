"""Files that claim to be images and are broken, bombs or unusual, each with its right status.

200 is a harmless image, 413 one with too many pixels for a limit of a megapixel, 415 no image, and
422 one whose header is right and whose rest is not. Made with Pillow, zlib and struct.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
PIXELS = np.random.default_rng(3).integers(0, 256, (24, 32, 3)).astype(np.uint8)
MANY = zlib.compress(bytes(50_000_000))
FRAMES = [Image.new("RGB", (32, 24), (k, 0, 0)) for k in range(100)]
Case = tuple[int, str, bytes]
"""Status, name, file."""


def chunk(kind: bytes, data: bytes, *, length: int | None = None) -> bytes:
    """A chunk of a PNG; `length` may lie."""
    head = struct.pack(">I", len(data) if length is None else length) + kind
    return head + data + struct.pack(">I", zlib.crc32(kind + data))


ROWS = zlib.compress((b"\0" + bytes(32)) * 24)
TEXT = chunk(b"tEXt", b"a\0b")


def png(
    width: int = 32, height: int = 24, *, depth: int = 8, colour: int = 0, interlaced: int = 0,
    rows: bytes = ROWS, before: bytes = b"", end: bytes = chunk(b"IEND", b""),
) -> bytes:  # fmt: skip
    """A PNG, by default grey, whose header may not fit its rows."""
    size = struct.pack(">II", width & 0xFFFFFFFF, height & 0xFFFFFFFF)
    head = chunk(b"IHDR", size + bytes([depth, colour, 0, 0, interlaced]))
    return PNG + head + before + chunk(b"IDAT", rows) + end


def saved(kind: str, *, mode: str = "RGB", **options: Any) -> bytes:
    """An image of 32 x 24 pixels as Pillow writes it."""
    out = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(out, kind, **options)
    return out.getvalue()


def changed(data: bytes, at: int, new: bytes) -> bytes:
    """A file with other bytes at a place."""
    return data[:at] + new + data[at + len(new) :]


def tiff(tags: Sequence[tuple[int, int, int, int]], *, following: int = 0) -> bytes:
    """A little-endian TIFF with one directory of (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    )


def exif(orientation: int, *, kind: int = 3, following: int = 0) -> bytes:
    """EXIF data with an orientation."""
    return b"Exif\0\0" + tiff([(274, kind, 1, orientation)], following=following)


def pngs() -> Iterator[Case]:
    for status, width, height in (
        (422, 0, 0), (422, 0, 9), (422, 9, 0), (413, -1, 9), (413, 2**31, 1), (413, 1001, 1000),
        (413, 2**31 - 1, 2**31 - 1), (413, 30_000, 30_000), (413, 1, 1_000_001),
    ):  # fmt: skip
        yield status, f"png {width} x {height}", png(width, height, colour=2)
    for depth, colour in ((3, 0), (0, 2), (16, 3), (4, 2), (8, 5), (8, 255), (255, 0)):
        yield 422, f"png depth {depth} colour {colour}", png(depth=depth, colour=colour)
    for name, broken in {
        "interlaced 7": png(interlaced=7),
        "of a header": png()[:33], "wrong crc": changed(png(), 32, b"\xff"),
        "two headers": png(before=chunk(b"IHDR", bytes(13))), "empty rows": png(rows=b""),
        "short rows": png(rows=ROWS[:10]),
        "rows no zlib": png(rows=b"no zlib"),
        "filter 9": png(rows=zlib.compress((b"\x09" + bytes(32)) * 24)),
        "chunk beyond the file": png(before=chunk(b"tEXt", b"a", length=2**31 - 1)),
        "chunk of 4 GB": png(before=chunk(b"tEXt", b"a", length=2**32 - 1)),
    }.items():  # fmt: skip
        yield 422, f"png {name}", broken
    yield 415, "png of a signature", PNG
    frames = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    palette = zlib.compress((b"\0" + b"\xff" * 32) * 24)
    for name, harmless in {
        "good": png(), "without end": png(end=b""), "rows of 50 MB": png(rows=MANY),
        "1000 texts": png(before=TEXT * 1000),
        "text of 50 MB": png(before=chunk(b"zTXt", b"a\0\0" + MANY)),
        "profile of 50 MB": png(before=chunk(b"iCCP", b"a\0\0" + MANY)),
        "profile garbage": png(before=chunk(b"iCCP", b"a\0\0garbage")),
        "exif garbage": png(before=chunk(b"eXIf", b"garbage")),
        "exif orientation 99": png(before=chunk(b"eXIf", exif(99)[6:])),
        "animation of 2^31 frames": png(before=frames),
        "exif loop": png(before=chunk(b"eXIf", exif(6, following=8)[6:])),
        "unknown chunk": png(before=chunk(b"ABCD", b"x")),
        "no palette": png(colour=3), "empty palette": png(colour=3, before=chunk(b"PLTE", b"")),
        "index beyond the palette": png(colour=3, rows=palette, before=chunk(b"PLTE", bytes(3))),
        "16 bits": png(depth=16, rows=zlib.compress((b"\0" + bytes(64)) * 24)),
        "1 bit": png(depth=1, rows=zlib.compress(bytes(5) * 24)),
        "transparent": saved("PNG", mode="RGBA"), "grey and transparent": saved("PNG", mode="LA"),
        "of 20 frames": saved("PNG", save_all=True, append_images=FRAMES[:19]),
    }.items():  # fmt: skip
        yield 200, f"png {name}", harmless


def jpegs() -> Iterator[Case]:
    good, scan = saved("JPEG"), saved("JPEG", progressive=True)
    sof, start = good.index(b"\xff\xc0"), scan.rindex(b"\xff\xda")
    for status, width, height in (
        (415, 0, 24), (415, 32, 0), (415, 0, 0), (413, 65535, 65535), (413, 1001, 1000),
    ):  # fmt: skip
        yield (
            status,
            f"jpeg {width} x {height}",
            changed(good, sof + 5, struct.pack(">HH", height, width)),
        )
    yield 413, "jpeg of 200 scans", scan[:-2] + scan[start:-2] * 200 + b"\xff\xd9"
    for orientation in (0, 3, 6, 9, 65535):
        yield 200, f"jpeg orientation {orientation}", saved("JPEG", exif=exif(orientation))
    for name, harmless in {
        "orientation as text": saved("JPEG", exif=exif(1, kind=2)),
        "orientation of type 99": saved("JPEG", exif=exif(1, kind=99)),
        "exif loop": saved("JPEG", exif=exif(6, following=8)),
        "exif garbage": saved("JPEG", exif=b"Exif\0\0" + bytes(range(256))),
        "exif empty": saved("JPEG", exif=b"Exif\0\0"),
        "profile garbage": saved("JPEG", icc_profile=b"\xff" * 5000),
        "profile truncated": saved("JPEG", icc_profile=b"\0\0\x10\0acsp"),
        "cmyk": saved("JPEG", mode="CMYK"),
        "grey": saved("JPEG", mode="L"),
        "progressive": scan, "two images": good * 2, "and a zip": good + b"PK\x03\x04" + bytes(100),
        "restarts": good[:-2] + b"\xff\xd0\xff\xd7" * 500 + b"\xff\xd9",
        "and html": good[:-2] + b"<script>\xff\xd9",
    }.items():  # fmt: skip
        yield 200, f"jpeg {name}", harmless
    for name, broken in {
        "without end": good[:-2], "cut in the scan": good[:-100],
        "sampling 0": changed(good, sof + 11, b"\0"),
        "table 7": changed(good, sof + 12, b"\x07"), "lossless": changed(good, sof, b"\xff\xc3"),
    }.items():  # fmt: skip
        yield 422, f"jpeg {name}", broken
    for name, none in {
        "of a marker": b"\xff\xd8\xff", "start and end": b"\xff\xd8\xff\xd9",
        "cut in the tables": good[: sof - 20],
        "12 bits": changed(good, sof + 4, b"\x0c"), "0 components": changed(good, sof + 9, b"\0"),
        "255 components": changed(good, sof + 9, b"\xff"),
        "segment beyond the file": good[:2] + b"\xff\xfe\xff\xff" + good[2:100],
    }.items():  # fmt: skip
        yield 415, f"jpeg {name}", none


def animations() -> Iterator[Case]:
    for kind in ("GIF", "WEBP", "TIFF"):
        yield 200, f"{kind} of frames", saved(kind, save_all=True, append_images=FRAMES)
    gif, webp = saved("GIF", mode="P"), saved("WEBP", lossless=True)
    frame = gif.index(b",", 13)
    yield 413, "gif screen of 65535", changed(gif, 6, b"\xff\xff\xff\xff")
    yield 413, "gif frame beyond the screen", changed(gif, frame + 5, b"\xff\xff\xff\xff")
    yield 200, "gif screen of 0", changed(gif, 6, bytes(4))
    yield 200, "gif without trailer", gif[:-1]
    yield 415, "gif of a header", gif[:13]
    yield 422, "gif cut", gif[:-200]
    yield 422, "gif of zeros", gif[:-300] + bytes(300)
    yield 413, "webp of 16383", changed(webp, 21, struct.pack("<I", 16382 | (16382 << 14)))
    yield 415, "webp cut", webp[:-50]
    yield 415, "webp size lies", changed(webp, 4, b"\xff\xff\xff\xff")
    yield 415, "webp of a header", webp[:20]
    yield 200, "webp lossy", saved("WEBP")
    yield 200, "webp transparent", saved("WEBP", mode="RGBA")


def tiffs() -> Iterator[Case]:
    base = {256: 32, 257: 24, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: 24, 279: 768}
    long_tags = (273, 279)

    def grey(**tags: int) -> bytes:
        values = base | {int(name[1:]): value for name, value in tags.items()}
        rows = [(tag, 4 if tag in long_tags else 3, 1, value) for tag, value in values.items()]
        return tiff(rows).ljust(200, b"\0") + bytes(768)

    yield 200, "tiff good", grey()
    for status, name, value in (
        (415, "t256", 0), (415, "t257", 0), (413, "t256", 65535), (415, "t258", 0),
        (422, "t258", 16),
        (415, "t258", 63), (422, "t259", 8), (422, "t259", 5), (422, "t259", 7),
        (415, "t259", 9999),
        (415, "t262", 99), (422, "t273", 2**32 - 1), (415, "t277", 0), (415, "t277", 65535),
        (422, "t278", 0),
        (200, "t279", 0),
    ):  # fmt: skip
        yield status, f"tiff {name}={value}", grey(**{name: value})
    yield 422, "tiff loop", tiff([(tag, 3, 1, value) for tag, value in base.items()], following=8)
    yield 415, "tiff without tags", tiff([])
    yield 415, "tiff of 65535 tags", b"II*\0\x08\0\0\0\xff\xff"
    yield 415, "tiff directory beyond the file", b"II*\0\xff\xff\xff\xff"
    yield 415, "tiff of 64 bits", b"II+\0\x08\0\0\0" + bytes(50)
    yield 422, "tiff of fractions", saved("TIFF", mode="F")
    for mode in ("CMYK", "1", "P", "LA", "YCbCr", "LAB", "I;16"):
        yield 200, f"tiff {mode}", saved("TIFF", mode=mode)
    for name in ("tiff_adobe_deflate", "tiff_lzw", "packbits"):
        whole = saved("TIFF", compression=name)
        yield 200, name, whole
        yield 415, f"{name} cut", whole[:500]


def plain() -> Iterator[Case]:
    bmp = saved("BMP")
    for status, name, at, value in (
        (415, "width 0", 18, 0), (413, "width -1", 18, -1), (413, "width 2^31", 18, 2**31 - 1),
        (415, "height 0", 22, 0),
        (200, "height -24", 22, -24), (413, "height -2^31", 22, -(2**31)), (422, "rle", 30, 1),
        (422, "offset", 10, 2**31 - 1),
        (415, "header 0", 14, 0), (415, "header 2^31", 14, 2**31 - 1),
        (200, "colours", 46, 2**31 - 1),
    ):  # fmt: skip
        yield status, f"bmp {name}", changed(bmp, at, struct.pack("<i", value))
    yield 422, "bmp cut", bmp[:60]
    yield 200, "bmp palette", saved("BMP", mode="P")
    for status, text in (
        (413, b"P6 999999 999999 255\n"), (415, b"P6 0 0 255\n"), (415, b"P6 -1 5 255\n"),
        (415, b"P6 5 5 0\nxx"),
        (415, b"P6 5 5 65536\n"), (422, b"P6 5 5 255\nxx"), (415, b"P6"), (415, b"P6 5"),
        (415, b"P6 " + b"9" * 2000 + b" 5 255\n"),
        (422, b"P3 2 2 255\n1 2 3 999 5 6 7 8 9 1 2 3"), (422, b"P3 2 2 255\nabc"),
        (200, b"P5 4 4 65535\n" + bytes(32)),
        (200, b"P4 8 8\n" + bytes(8)), (200, b"P1 2 2\n1 0 1 0"),
        (200, b"P6 #" + b"c" * 2000 + b"\n2 2 255\n" + bytes(12)),
        (413, b"P7\nWIDTH 99999\nHEIGHT 99999\nDEPTH 3\nMAXVAL 255\nENDHDR\n"),
        (413, b"PF\n99999 99999\n-1\n"),
        (422, b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 99\nMAXVAL 255\nENDHDR\n"),
        (200, b"PF\n2 2\n-1\n" + bytes(48)),
        (422, b"Pf\n2 2\n-1\n" + bytes(16)), (413, b"#?RADIANCE\n\n-Y 99999 +X 99999\n"),
        (422, b"#?RADIANCE\n\n-Y 2 +X 2\n" + bytes(16)),
    ):  # fmt: skip
        yield status, f"{text[:30]!r}", text
    sun = [0x59A66A95, 2, 2, 24, 12, 1, 0, 0]
    yield 200, "sun raster", struct.pack(">8I", *sun) + bytes(12)
    yield 413, "sun raster of 2^31", struct.pack(">8I", sun[0], 2**31, 2**31, *sun[3:])
    jp2, avif = saved("JPEG2000"), saved("AVIF")
    yield 200, "jpeg2000", jp2
    yield 415, "jpeg2000 cut in the boxes", jp2[:40]
    yield 415, "jpeg2000 cut", jp2[:120]
    yield 413, "jpeg2000 box of 2^31", changed(jp2, jp2.index(b"ihdr") + 4, b"\x7f\xff\xff\xff" * 2)
    yield (
        422,
        "jpeg2000 code of 2^31",
        changed(jp2, jp2.index(b"\xff\x51") + 6, b"\x7f\xff\xff\xff" * 2),
    )
    yield 200, "avif", avif
    yield 415, "avif cut", avif[:100]
    yield 415, "avif box of length 0", changed(avif, 0, bytes(4))
    yield 415, "avif box of 4 GB", changed(avif, 0, b"\xff\xff\xff\xff")


def no_images() -> Iterator[Case]:
    for name, data in {
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "xml": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "pdf": b"%PDF-1.7\n" + bytes(100), "windows metafile": b"\xd7\xcd\xc6\x9a" + bytes(60),
        "icon": b"\0\0\1\0\1\0" + bytes(60),
        "photoshop": b"8BPS\0\1" + bytes(60),
        "fits": b"SIMPLE  =                    T" + b" " * 80, "dds": b"DDS |\0\0\0" + bytes(124),
        "tga": bytes([0, 0, 2]) + bytes(9) + b"\x20\0\x18\0\x18\0" + bytes(99),
        "zip": b"PK\3\4" + bytes(100),
        "gzip": b"\x1f\x8b\x08" + bytes(50), "elf": b"\x7fELF" + bytes(100),
        "pickle": b"\x80\x04\x95cos\nsystem\n",
        "numpy": b"\x93NUMPY\1\0" + bytes(100), "mp4": b"\0\0\0\x18ftypmp42" + bytes(100),
        "html": b"<script>alert(1)</script>",
        "url": b"http://127.0.0.1:1/a.png", "path": b"/etc/passwd",
        "file url": b"file:///etc/passwd", "nested json": b"[" * 50_000,
        "base64": b"data:image/png;base64,iVBORw0KGgo=", "zeros": bytes(1000),
        "ones": b"\xff" * 1000, "yaml": b"%YAML:1.0\n---\na: 1\n",
        "imagemagick": b"push graphic-context\nfill 'url(https://x|id)'\n", "one byte": b"x",
        "byte order mark": b"\xef\xbb\xbf",
    }.items():  # fmt: skip
        yield 415, name, data


def hostile_images() -> list[Case]:
    """All of them."""
    makers = (pngs, jpegs, animations, tiffs, plain, no_images)
    return [case for maker in makers for case in maker()]
