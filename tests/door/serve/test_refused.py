"""The server refuses bad input with a status code and a reason of its own, and goes on working."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hostile_images import png
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cropfirst.core.errors import DoorError
from cropfirst.door.serve.limits import ServeLimits
from cropfirst.door.serve.run import Address, Server

Encode = Callable[..., bytes]


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def post(client: httpx.Client, content: bytes, kind: str = "image/png", **headers: str) -> Any:
    return client.post("/v1/predict", content=content, headers={"Content-Type": kind, **headers})


def test_every_limit_has_its_status_and_reason(
    client: httpx.Client, photo_file: bytes, encode: Encode, face_photo: np.ndarray
) -> None:
    many = [("a", (str(k), b"x")) for k in range(5)]
    crowd = encode(np.concatenate([face_photo] * 3, axis=1), ".jpg")
    large = np.random.default_rng(0).bytes(2_100_000)
    assert reason(post(client, large)) == (413, "too_large")
    assert reason(post(client, iter([large[:1_500_000]] * 2))) == (413, "too_large")  # chunked
    assert reason(post(client, png(30_000, 30_000))) == (413, "too_many_pixels")
    assert reason(post(client, crowd)) == (422, "too_many_faces")
    assert reason(client.post("/v1/predict", files=many)) == (413, "too_many_images")
    half = encode(np.zeros((800, 800, 3), np.uint8))
    two = client.post("/v1/predict", files=[("a", ("a", half)), ("b", ("b", half))])
    assert reason(two) == (413, "too_many_pixels")


@pytest.mark.parametrize(
    ("content", "kind", "wanted"),
    [
        (b"", "image/png", (422, "no_image")),
        (b"x", "image/png", (415, "not_an_image")),
        (b"http://127.0.0.1/a.png", "application/octet-stream", (415, "not_an_image")),
        (b"/etc/passwd", "image/jpeg", (415, "not_an_image")),
        (b'{"url": "file:///etc/passwd"}', "application/json", (415, "wrong_type")),
        (b"url=http://x", "application/x-www-form-urlencoded", (415, "wrong_type")),
        (b"x", "", (415, "wrong_type")),
        (b"x", "multipart/form-data", (422, "broken_form")),
        (b"--b\r\n\r\n", "multipart/form-data; boundary=b", (422, "not_a_file")),
        (b"--b--\r\n", "multipart/form-data; boundary=b", (422, "no_image")),
        (
            b'--b\r\nContent-Disposition: form-data; name="url"\r\n\r\nhttp://x\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            (422, "not_a_file"),
        ),
    ],
)
def test_what_is_no_image_is_refused(
    client: httpx.Client, content: bytes, kind: str, wanted: tuple[int, str]
) -> None:
    assert reason(post(client, content, kind)) == wanted


def test_other_paths_methods_hosts_and_origins(client: httpx.Client, server: str) -> None:
    for path in ("/v1/predict/", "/../etc/passwd", "/static/%2e%2e/x", "//evil/x", "/v1/%00"):
        assert reason(client.get(path))[0] == 404, path
    wrong = client.get("/v1/predict")
    assert reason(wrong) == (405, "wrong_method") and wrong.headers["allow"] == "POST"
    assert wrong.json()["error"]["message"] == "wanted the method POST, got GET"
    stream = client.get("/v1/stream")
    assert reason(stream) == (426, "not_a_websocket") and stream.headers["upgrade"] == "websocket"
    assert reason(post(client, b"x", Host="evil.example")) == (421, "wrong_host")
    assert reason(post(client, b"x", Origin="http://evil.example")) == (403, "wrong_origin")
    assert reason(client.get("/docs", headers={"Host": "127.0.0.1.evil.example"}))[0] == 421
    assert client.get("/docs", headers={"Host": "LOCALHOST:99"}).status_code == 200
    assert client.get("/healthz", headers={"Host": "10.0.0.7:8000"}).status_code == 200
    own = server.rpartition("/")[2]
    assert reason(post(client, b"x", Origin=f"http://{own}"))[0] == 415


def test_too_many_requests_at_once(server: str, client: httpx.Client, photo_file: bytes) -> None:
    """Four may wait; the fifth is told to come back, and all others are answered."""
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(client, photo_file), range(16)))
    codes = {answer.status_code for answer in answers}
    assert codes == {200, 503}
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert reason(busy) == (503, "busy") and busy.headers["retry-after"] == "1"
    assert post(client, photo_file).status_code == 200


def test_an_answer_that_takes_too_long(run_server: Callable[..., Any], encode: Encode) -> None:
    """The images that nobody waits for any more are dropped, and the next request is answered."""
    limits = ServeLimits(
        max_seconds=1, max_images=40, max_megapixels=100, max_batch=2, max_batches=1
    )
    photo = encode(np.full((1000, 1200, 3), 99, np.uint8))  # few bytes, much work
    with (
        run_server(limits) as url,
        httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):
        files = [("a", (str(k), photo)) for k in range(40)]
        began = time.monotonic()
        assert reason(client.post("/v1/predict", files=files)) == (504, "too_slow")
        while post(client, photo).status_code == 504:  # after the batch that is in work
            assert time.monotonic() - began < 100
        images = re.search(r"^cropfirst_batch_images_sum (\S+)$", client.get("/metrics").text, re.M)
        assert images is not None and float(images[1]) < 40


def test_streams_have_limits_too(server: str, photo_file: bytes) -> None:
    address = server.replace("http", "ws") + "/v1/stream"
    with pytest.raises(InvalidStatus) as wrong:
        connect(address, origin="http://evil.example")
    assert wrong.value.response.status_code == 403
    with connect(address), connect(address), pytest.raises(InvalidStatus) as third:
        connect(address)
    assert third.value.response.status_code == 503
    with connect(address) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.send("text")
        socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1003
    with connect(address) as socket:
        socket.send(png(30_000, 30_000))
        assert json.loads(socket.recv())["error"]["code"] == "too_many_pixels"
        with pytest.raises(ConnectionClosed):  # silent for longer than the limit
            socket.recv(timeout=5)


@pytest.fixture(scope="module")
def keyed(
    run_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text("first-key-0123456789\nsecond-key-0123456789\n")
    with run_server(api_key_file=keys) as url:
        yield url


def test_keys_guard_predictions_streams_and_metrics(keyed: str, photo_file: bytes) -> None:
    with httpx.Client(base_url=keyed, trust_env=False) as client:
        for key in ("", "Bearer", "Bearer wrong", "Basic first-key-0123456789", "Bearer \xe9"):
            refused = post(client, photo_file, Authorization=key.encode("latin-1"))
            assert reason(refused) == (401, "wrong_key"), key
            assert refused.headers["www-authenticate"] == "Bearer"
        assert reason(client.get("/metrics")) == (401, "wrong_key")
        for key in ("first", "second"):
            answer = post(client, photo_file, Authorization=f"Bearer {key}-key-0123456789")
            assert answer.status_code == 200
        assert client.get("/healthz").status_code == 200  # waits for the check, unlike /readyz
        assert client.get("/readyz").status_code == 200
        assert client.get("/docs").status_code == 200
    address = keyed.replace("http", "ws") + "/v1/stream"
    with pytest.raises(InvalidStatus) as wrong:
        connect(address)
    assert wrong.value.response.status_code == 401
    with connect(
        address, additional_headers={"Authorization": "Bearer first-key-0123456789"}
    ) as socket:
        socket.send(photo_file)
        assert len(json.loads(socket.recv())["faces"]) == 1


def test_other_machines_need_a_key_and_a_name(tmp_path: Path, bundle_folder: Path) -> None:
    keys = tmp_path / "keys"
    with pytest.raises(DoorError, match="give --api-key-file"):
        Address("0.0.0.0").access()
    keys.write_text("short")
    with pytest.raises(DoorError, match="at least 16 characters"):
        Address("192.0.2.7", api_key_file=keys).access()
    keys.write_text("k" * 20)
    with pytest.raises(DoorError, match="give --allow-host"):
        Address("0.0.0.0", api_key_file=keys).access()
    with pytest.raises(DoorError, match=r"--tls-cert .*keys needs its .*: --tls-key FILE"):
        Address(tls_cert=keys).access()
    with pytest.raises(DoorError, match="there is no file"):
        Address(tls_cert=keys, tls_key=tmp_path / "missing").access()
    access = Address("0.0.0.0", allowed_hosts=["Door.example"], api_key_file=keys).access()
    assert "door.example" in access.hosts and len(access.keys) == 1
    open_to_all = Address("0.0.0.0", 0, allowed_hosts=["x"], api_key_file=keys)
    server = Server(bundle_folder, open_to_all, ServeLimits())
    server.close()
    assert any("put a proxy with TLS" in note for note in server.notes)


def test_a_port_that_is_taken(server: str, bundle_folder: Path) -> None:
    port = int(server.rpartition(":")[2])
    with pytest.raises(DoorError, match=f"cannot listen on 127.0.0.1 port {port}"):
        Server(bundle_folder, Address(port=port), ServeLimits())


def test_tls(run_server: Callable[..., Any], tmp_path: Path, photo_file: bytes) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("openssl, which makes the certificate, is not here")
    with run_server(tls_cert=cert, tls_key=key) as url:
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(base_url=url, verify=context, trust_env=False) as client:
            assert post(client, photo_file).status_code == 200
