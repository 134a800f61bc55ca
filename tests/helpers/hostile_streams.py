"""WebSocket handshakes and frames that no well-behaved client sends, each with the right end."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hostile_requests import AUTH, UPGRADE, Hostile, one


def frame(
    opcode: int, data: bytes = b"", *, end: bool = True, masked: bool = True, reserved: int = 0,
    length: int | None = None,
) -> bytes:  # fmt: skip
    """A WebSocket frame whose header may lie."""
    size = len(data) if length is None else length
    head = bytes([end << 7 | reserved << 4 | opcode])
    mask = masked << 7
    if size < 126:
        head += bytes([mask | size])
    elif size < 1 << 16:
        head += bytes([mask | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mask | 127]) + struct.pack(">Q", size)
    return head + bytes(4 * masked) + data


def hostile_streams() -> Iterator[Hostile]:
    """Frames that break the protocol: the code of the server's close frame; 0 = closed without."""
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield one(f"opcode {opcode}", 1002, frame(opcode, b"x"))
    for reserved in range(1, 8):
        yield one(f"reserved {reserved}", 1002, frame(2, b"x", reserved=reserved))
    for opcode in (0, 1, 2, 8, 9, 10):
        yield one(f"no mask {opcode}", 1002, frame(opcode, b"", masked=False))
    for opcode in (8, 9, 10):
        yield one(f"control in parts {opcode}", 1002, frame(opcode, b"", end=False))
        yield one(f"control of 126 {opcode}", 1002, frame(opcode, bytes(126)))
        yield one(f"control of 2^63 {opcode}", 1009, frame(opcode, b"", length=2**63))
    yield one("continued first", 1002, frame(0, b"x"))
    yield one("two messages in one", 1002, frame(2, b"x", end=False) + frame(2, b"x"))
    yield one("text in a frame", 1002, frame(2, b"x", end=False) + frame(1, b"x"))
    yield one("text", 1003, frame(1, b'{"url": "file:///etc/passwd"}'))
    yield one("empty text", 1003, frame(1))
    yield one("text in parts", 1003, frame(1, b"a", end=False) + frame(0, b"b"))
    for text in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):
        yield one(f"text {text!r}", 1007, frame(1, text))
    for size in (500_001, 2**31, 2**40, 2**62, 2**63, 2**64 - 1):
        yield one(f"{size} bytes", 1009, frame(2, b"x", length=size))
    parts = frame(2, bytes(250_000), end=False) + frame(0, bytes(250_000), end=False)
    yield one("too large in parts", 1009, parts + frame(0, b"x"))
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535):
        yield one(f"closed with {code}", 1002, frame(8, struct.pack(">H", code)))
    for code in (1000, 1001, 1011, 3000, 4999):
        yield one(f"closed well with {code}", code, frame(8, struct.pack(">H", code)))
    yield one("closed with a byte", 1002, frame(8, b"\x03"))
    yield one("closed with no text", 1007, frame(8, b"\x03\xe8\xff"))
    yield one("HTTP in a stream", 1002, b"GET / HTTP/1.1\r\n\r\n")
    yield one("TLS in a stream", 1002, b"\x16\x03\x01\x02\x00")
    yield one("stream ends at once", 0, half_open=True)
    yield one("stream ends in a frame", 0, frame(2, b"x", length=99), half_open=True)


def hostile_handshakes() -> Iterator[Hostile]:
    """Heads that ask for a WebSocket and do not get one."""
    head = b"GET /v1/stream HTTP/1.1\r\n"
    for name, old, new in (
        ("no key", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", b""),
        ("short key", b"AAAAAAAAAAAAAAAAAAAAAA==", b"AAAA"),
        ("bad key", b"AAAAAAAAAAAAAAAAAAAAAA==", b"!"),
        ("no version", b"Sec-WebSocket-Version: 13\r\n", b""),
        ("version 12", b"13", b"12"), ("version x", b"13", b"x"),
    ):  # fmt: skip
        yield one(f"stream with {name}", 400, head + UPGRADE.replace(old, new) + AUTH + b"\r\n")
    for name, more in (
        ("a body", b"Content-Length: 5\r\n\r\nabcde"),
        ("200 fields", b"".join(b"X%d: y\r\n" % k for k in range(200)) + b"\r\n"),
        ("a long field", b"X: " + b"a" * 9000 + b"\r\n\r\n"),
        ("chunks", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ):  # fmt: skip
        yield one(f"stream with {name}", 400, head + UPGRADE + AUTH + more)
    long_line = b"GET /v1/stream?" + b"a" * 9000 + b" HTTP/1.1\r\n"
    yield one("stream with a long path", 400, long_line + UPGRADE + AUTH + b"\r\n")
    for path in (b"/", b"/docs", b"/v1/predict", b"/v1/stream/", b"/..%2f", b"/nothing"):
        request = b"GET " + path + b" HTTP/1.1\r\n" + UPGRADE + AUTH + b"\r\n"
        yield one(f"stream at {path!r}", 404, request)
    yield one("stream without a key", 401, head + UPGRADE + b"\r\n")
    yield one(
        "stream of another host",
        421,
        head + UPGRADE.replace(b"127.0.0.1", b"evil") + AUTH + b"\r\n",
    )
