"""Measure `cropfirst serve` under load: latency, requests per second and memory.

    python benchmarks/serve.py my_bundle portrait.jpg [--seconds 60 --clients 1,4,16]

Each number of clients sends the photo as fast as it is answered, once with micro-batches and once
without (`--max-batch 1`), to a server of its own on this machine. Clients and server share the
cores. Printed are the median, 95 % and 99 % quantile of the time of a request, the requests per
second, the images per batch, the server's processor time per request, which other programs on the
machine hardly change, and its memory (RSS) before and after.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

HEADERS = {"Content-Type": "application/octet-stream"}
START_TIMEOUT_S = 120


@contextmanager
def running(bundle: Path, *options: str) -> Iterator[tuple[int, psutil.Process]]:
    """Start a server; give its port and process."""
    command = [sys.executable, "-m", "cropfirst.cli", "serve", str(bundle), "--port", "0"]
    with subprocess.Popen(
        [*command, "--max-requests", "64", *options], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _port_when_ready(process), psutil.Process(process.pid)
        finally:
            process.terminate()


def _port_when_ready(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
    if found is None:
        raise click.ClickException("the server did not start: see its message above")
    port, end = int(found[1]), time.monotonic() + START_TIMEOUT_S
    while _get(port, "/readyz") != 200:
        if process.poll() is not None or time.monotonic() > end:
            raise click.ClickException("the server does not get ready: see its message above")
        time.sleep(0.1)
    return port


def _get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def ask(port: int, photo: bytes, *, clients: int, seconds: float) -> list[float]:
    """Return the seconds of each request of some clients that ask again and again."""
    times: list[float] = []
    failed: list[int] = []
    end = time.perf_counter() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.perf_counter() < end:
            began = time.perf_counter()
            connection.request("POST", "/v1/predict", photo, HEADERS)
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - began)
            if answer.status != 200:
                failed.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise click.ClickException(f"{len(failed)} requests failed, first with {failed[0]}")
    return times


def measure(
    port: int, server: psutil.Process, photo: bytes, *, clients: int, seconds: float
) -> dict[str, Any]:
    """Return the figures of one number of clients."""
    ask(port, photo, clients=clients, seconds=min(2.0, seconds / 4))  # not measured
    before, batches = server.memory_info().rss, _batches(port)
    began, busy = time.perf_counter(), sum(server.cpu_times()[:2])
    times = np.array(ask(port, photo, clients=clients, seconds=seconds))
    took, busy = time.perf_counter() - began, sum(server.cpu_times()[:2]) - busy
    images, count = np.subtract(_batches(port), batches)
    p50, p95, p99 = (1000 * np.quantile(times, share) for share in (0.5, 0.95, 0.99))
    return {
        "clients": clients, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99,
        "requests_per_s": len(times) / took, "images_per_batch": images / count,
        "cpu_ms": 1000 * busy / len(times),
        "mb_before": before / 2**20, "mb_after": server.memory_info().rss / 2**20,
    }  # fmt: skip


def _batches(port: int) -> tuple[float, float]:
    """Return the number of images so far, and of batches."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    images, count = (
        re.search(rf"^cropfirst_batch_images_{name} (\S+)$", text, re.MULTILINE)
        for name in ("sum", "count")
    )
    assert images is not None and count is not None
    return float(images[1]), float(count[1])


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("photo", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seconds", default=60.0, show_default=True, help="Seconds of each measurement.")
@click.option("--clients", default="1,4,16", show_default=True, help="Numbers of clients.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="File for the figures.")
def main(bundle: Path, photo: Path, seconds: float, clients: str, out: Path | None) -> None:
    """Measure a server of BUNDLE that is asked about PHOTO."""
    data, results = photo.read_bytes(), {}
    table = Table(
        "batches", "clients", "p50 ms", "p95 ms", "p99 ms", "per s", "images", "CPU ms", "RSS MB"
    )
    for name, options in (("up to 8", ()), ("none", ("--max-batch", "1"))):
        with running(bundle, *options) as (port, server):
            rows = [
                measure(port, server, data, clients=int(each), seconds=seconds)
                for each in clients.split(",")
            ]
        results[name] = rows
        for row in rows:
            whole = [f"{row[key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms")]
            tenths = ("requests_per_s", "images_per_batch", "cpu_ms")
            figures = [*whole, *(f"{row[key]:.1f}" for key in tenths)]
            memory = f"{row['mb_before']:.0f} -> {row['mb_after']:.0f}"
            table.add_row(name, str(row["clients"]), *figures, memory)
    Console().print(table)
    if out is not None:
        out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
