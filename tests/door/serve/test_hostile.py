"""Hostile requests: no crash, no leak, the right status, and then a good request is answered."""

from __future__ import annotations

import logging
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from hostile_images import hostile_images
from hostile_requests import (
    CHUNKED,
    HOST,
    IMAGE,
    KEY,
    POST,
    STREAM,
    Hostile,
    hostile_requests,
    with_body,
)
from hostile_streams import frame, hostile_handshakes, hostile_streams

from cropfirst.door.serve import protocols
from cropfirst.door.serve.limits import ServeLimits

CLIENTS = 8
FILE = b"GET /ort-wasm-simd-threaded.wasm HTTP/1.1\r\n" + HOST + b"\r\n"
FILE_BYTES = 14_000_000


@pytest.fixture(scope="module")
def address(
    run_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """A server with keys and low limits; its clients may hang for a second."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(KEY)
    limits = ServeLimits(
        max_mb=0.5, max_megapixels=1, max_images=4, max_faces=2, max_requests=32, max_streams=16,
        max_seconds=2,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "HEADER_SECONDS", 1.0)
        patch.setattr(protocols, "STALLED_SECONDS", 0.5)
        with run_server(limits, api_key_file=keys) as url:
            yield "127.0.0.1", int(url.rpartition(":")[2])


@pytest.fixture(autouse=True)
def _no_leak(
    address: tuple[str, int], photo_file: bytes, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """After each test the server holds nothing, has no error in its log, and answers right."""
    head = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url="http://{}:{}".format(*address), headers=head) as client:

        def ask() -> list[Any]:
            answer = client.post(
                "/v1/predict", content=photo_file, headers={"Content-Type": "image/png"}
            )
            faces: list[Any] = answer.json()["images"][0]["faces"]
            return faces

        wanted = ask()
        process = psutil.Process()
        files, threads, memory = (
            process.num_fds(),
            threading.active_count(),
            process.memory_info().rss,
        )
        yield
        assert len(wanted) == 1 and ask() == wanted
        assert client.get("/healthz").status_code == 200
        deadline = time.monotonic() + 5
        while process.num_fds() > files + 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.num_fds() <= files + 1
        assert threading.active_count() <= threads + CLIENTS
        assert process.memory_info().rss - memory < 60e6
        metrics = client.get("/metrics").text
    for name in ("active_requests", "streams"):
        assert re.search(rf"^cropfirst_{name} 0\.0$", metrics, re.MULTILINE), name
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def ask(address: tuple[str, int], case: Hostile, *, opened: bytes = b"") -> tuple[int, ...]:
    """Send a case; return the status of each answer, or for a stream the code of its end."""
    got = b""
    with socket.create_connection(address, timeout=8) as connection:
        try:
            if opened:
                connection.sendall(opened)
                assert connection.recv(65536).startswith(b"HTTP/1.1 101")
            for number, part in enumerate(case.parts):
                got += connection.recv(65536) if number else b""
                connection.sendall(part)
            if case.half_open:
                connection.shutdown(socket.SHUT_WR)
            while not (opened and got[:1] == b"\x88" and len(got) > 3) and (
                part := connection.recv(65536)
            ):
                got += part
        except ConnectionError:
            pass
    if opened:
        return (struct.unpack(">H", got[2:4])[0] if got[:1] == b"\x88" else 0,)
    return tuple(int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", got)) or (0,)


def check(address: tuple[str, int], cases: list[Hostile], *, opened: bytes = b"") -> None:
    assert len({case.name for case in cases}) == len(cases)
    with ThreadPoolExecutor(CLIENTS) as pool:
        codes = list(pool.map(lambda case: ask(address, case, opened=opened), cases))
    wrong = [
        f"{case.name}: wanted {case.wanted}, got {got}"
        for case, got in zip(cases, codes, strict=True)
        if got != case.wanted
    ]
    assert not wrong, "\n".join(wrong)


def test_hostile_requests_get_the_right_status(address: tuple[str, int]) -> None:
    cases = [*hostile_requests(), *hostile_handshakes()]
    check(address, cases)
    assert len(cases) > 400


def test_hostile_frames_end_the_stream_with_the_right_code(address: tuple[str, int]) -> None:
    check(address, list(hostile_streams()), opened=STREAM)


def test_hostile_images_get_the_right_status(address: tuple[str, int]) -> None:
    cases = [
        Hostile(name, (status,), (with_body(data, b"image/png"),))
        for status, name, data in hostile_images()
    ]
    check(address, cases)
    assert len(cases) > 150


def test_damaged_and_random_files_never_fail_the_server(
    address: tuple[str, int], photo_file: bytes
) -> None:
    """Cut, flipped and random; the status follows from the damage."""
    rng = np.random.default_rng(7)
    cases = []
    for number in range(30):
        cut = photo_file[: int(rng.integers(len(photo_file)))]
        flipped = bytearray(photo_file)
        for place in rng.integers(0, len(flipped), 20):
            flipped[place] ^= int(rng.integers(1, 256))
        form = b"--b\r\n" + rng.bytes(500)
        for kind, data in (
            (b"image/png", cut),
            (b"image/png", bytes(flipped)),
            (b"image/jpeg", rng.bytes(2000)),
            (b"multipart/form-data; boundary=b", form),
        ):
            cases.append(Hostile(f"{kind!r} {number}", (), (with_body(data, kind),)))
    with ThreadPoolExecutor(CLIENTS) as pool:
        codes = [code for got in pool.map(lambda case: ask(address, case), cases) for code in got]
    assert set(codes) <= {200, 415, 422} and len(codes) == len(cases)


@dataclass(frozen=True)
class Slow:
    """A client that never ends: starts, each sent after an answer to the one before, then drops."""

    wanted: int
    """The status, or the code of the end of a stream; 0 = closed without an answer."""
    starts: tuple[bytes, ...]
    drop: bytes = b"x"


SLOW = {
    "a body": Slow(408, (POST + IMAGE + b"Content-Length: 400000\r\n\r\n",)),
    "chunks": Slow(408, (CHUNKED + b"\r\n",), b"1\r\nx\r\n"),
    "a chunk of 256 MB": Slow(408, (CHUNKED + b"\r\nFFFFFFF\r\n",)),
    "the length of a chunk": Slow(408, (CHUNKED + b"\r\n",), b"0"),
    "the extension of a chunk": Slow(408, (CHUNKED + b"\r\n1;",)),
    "trailers": Slow(408, (CHUNKED + b"\r\n0\r\n",), b"X: y\r\n"),
    "a silent body": Slow(408, (POST + IMAGE + b"Content-Length: 9\r\n\r\n",), b""),
    "a head": Slow(0, (b"GET /docs HTTP/1.1\r\n",), b"X: y\r\n"),
    "a second head": Slow(200, (b"GET /docs HTTP/1.1\r\n" + HOST + b"\r\n", b"GET /docs H")),
    "a path": Slow(0, (b"GET /",)),
    "nothing": Slow(0, (), b""),
    "a body after its answer": Slow(
        405, (b"POST /docs HTTP/1.1\r\n" + HOST + b"Content-Length: 9999\r\n\r\n",)
    ),
    "a silent stream": Slow(1000, (STREAM,), b""),
    "a frame": Slow(1000, (STREAM, frame(2, length=99_999))),
    "a message in empty parts": Slow(
        1000, (STREAM, frame(2, end=False)), frame(0, end=False) * 100
    ),
    "pings": Slow(1000, (STREAM,), frame(9, b"x")),
    "pongs": Slow(1000, (STREAM,), frame(10, b"x")),
}


def meet(address: tuple[str, int], slow: Slow) -> int:
    """Send until the server ends it; return the status, or the code of the end of a stream."""
    got, is_open = b"", True
    with socket.create_connection(address, timeout=8) as connection:
        try:
            for number, start in enumerate(slow.starts):
                got += connection.recv(65536) if number else b""
                connection.sendall(start)
            while is_open and b"\x88" not in got:
                if select.select([connection], [], [], 0.1)[0]:
                    part = connection.recv(65536)
                    got, is_open = got + part, bool(part)
                elif slow.drop:
                    connection.sendall(slow.drop)
        except ConnectionError:
            pass
    ends = got.partition(b"\x88")[2]
    if ends:
        return int(struct.unpack(">H", ends[1:3])[0])
    return int(got[9:12] or b"0")


def test_slow_and_endless_clients_are_ended(address: tuple[str, int]) -> None:
    """All at the same time."""
    began = time.monotonic()
    with ThreadPoolExecutor(len(SLOW)) as pool:
        got = dict(
            zip(SLOW, pool.map(lambda slow: meet(address, slow), SLOW.values()), strict=True)
        )
    assert got == {name: slow.wanted for name, slow in SLOW.items()}
    assert time.monotonic() - began < 6


def deaf(address: tuple[str, int], *starts: bytes, flood: bytes = b"") -> int:
    """Take in nothing for some seconds, and send as much as is taken; return the bytes got."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(8)
    with connection:
        connection.connect(address)
        for number, start in enumerate(starts):
            connection.recv(65536) if number else None
            connection.sendall(start)
        began, got = time.monotonic(), 0
        try:
            while flood:
                connection.sendall(flood)
            time.sleep(1.2)
            while part := connection.recv(1 << 20):
                got += len(part)
        except ConnectionError:
            pass
        assert time.monotonic() - began < 6
    return got


def test_clients_that_take_in_nothing_are_ended(address: tuple[str, int]) -> None:
    """The server holds no large answer for each of them, and reads no more of what they send."""
    pings = frame(9, bytes(125)) * 1000
    with ThreadPoolExecutor(12) as pool:
        floods = [
            pool.submit(deaf, address, STREAM, pings, flood=pings),
            pool.submit(deaf, address, FILE, flood=FILE),
        ]
        files = [pool.submit(deaf, address, FILE) for _ in range(10)]
        assert all(each.result() < FILE_BYTES for each in files)
        assert all(each.result() == 0 for each in floods)
