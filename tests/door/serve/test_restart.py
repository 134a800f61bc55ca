"""`cropfirst serve` as a process: killed under load, back on its port, and ended in order."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from cropfirst.cli import main


def start(folder: Path, port: int) -> subprocess.Popen[str]:
    """Start a server, and wait until it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cropfirst.cli", "serve", str(folder), "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200:
                return process
        except httpx.HTTPError:
            pass
        time.sleep(0.05)


@pytest.mark.slow
def test_a_server_that_is_killed_under_load_comes_back(
    bundle_folder: Path, photo_file: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers: Counter[str] = Counter()
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            while not ended.is_set():
                try:
                    answer = client.post(
                        "/v1/predict", content=photo_file, headers={"Content-Type": "image/png"}
                    )
                    answers[str(answer.status_code)] += 1
                except httpx.HTTPError:
                    answers["lost"] += 1
                    time.sleep(0.05)

    process = start(bundle_folder, port)
    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        while answers["200"] < 4:
            time.sleep(0.02)
        process.kill()
        process.communicate()
        process = start(bundle_folder, port)
        before = answers["200"]
        while answers["200"] < before + 4:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, said = process.communicate(timeout=30)
    finally:
        ended.set()
        process.kill()
        for client in clients:
            client.join()
    assert set(answers) == {"200", "lost"} and answers["lost"], answers
    assert process.returncode == 143 and out.startswith("serving ") and "stopped" in said
    assert "Traceback" not in said


def test_what_keeps_it_from_starting_is_said(bundle_folder: Path, tmp_path: Path) -> None:
    def said(*args: object) -> str:
        result = CliRunner().invoke(main, ["serve", *map(str, args)])
        assert result.exit_code == 1
        return result.stderr

    assert "no bundle in" in said(tmp_path)
    assert "give --api-key-file" in said(bundle_folder, "--host", "0.0.0.0")
    assert "needs its certificate: --tls-cert FILE" in said(
        bundle_folder, "--tls-key", tmp_path / "key"
    )
