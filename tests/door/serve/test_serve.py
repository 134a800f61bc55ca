"""The server answers as the bundle itself, and is described, measured and watched."""

from __future__ import annotations

import http.client
import json
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from websockets.sync.client import connect

from cropfirst.door import Bundle
from cropfirst.door.serve.limits import ServeLimits
from cropfirst.door.serve.schema import face_json
from cropfirst.door.web.folder import page_files

Encode = Callable[..., bytes]


@pytest.fixture(scope="module")
def expected(bundle_folder: Path, face_photo: np.ndarray) -> list[dict[str, Any]]:
    """The faces of the photo by the bundle itself."""
    return [face_json(face) for face in Bundle.open(bundle_folder).predict(face_photo)]


def same(got: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    """Whether faces are equal; sums of several threads may differ in the last bits."""
    flat = [json.dumps(json.loads(json.dumps(each), parse_float=lambda x: f"{float(x):.3f}"))
            for each in (got, wanted)]  # fmt: skip
    return flat[0] == flat[1]


def metric(client: httpx.Client, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_raw_photo_is_answered_as_the_bundle_answers_it(
    client: httpx.Client, photo_file: bytes, expected: list[dict[str, Any]]
) -> None:
    for kind in ("image/png", "application/octet-stream", "IMAGE/PNG; charset=x"):
        answer = client.post("/v1/predict", content=photo_file, headers={"Content-Type": kind})
        assert answer.status_code == 200, answer.text
        (image,) = answer.json()["images"]
        assert (image["width"], image["height"], image["error"]) == (384, 512, None)
        assert len(image["faces"]) == 1 and same(image["faces"], expected)


def test_several_photos_come_back_in_order_and_a_broken_one_has_its_own_error(
    client: httpx.Client, photo_file: bytes, encode: Encode, expected: list[dict[str, Any]]
) -> None:
    empty = encode(np.zeros((40, 60, 3), np.uint8))
    contents = (empty, photo_file, b"no image", photo_file[:3000])
    files = [("images", (f"../../{k}.png", data)) for k, data in enumerate(contents)]
    answer = client.post("/v1/predict", files=files)
    assert answer.status_code == 200
    images = answer.json()["images"]
    assert [len(each["faces"]) for each in images] == [0, 1, 0, 0]
    assert [(each["error"] or {}).get("code") for each in images] == [
        None, None, "not_an_image", "undecodable",
    ]  # fmt: skip
    assert (images[0]["width"], images[0]["height"]) == (60, 40)
    assert same(images[1]["faces"], expected)


def test_answers_fit_the_schema_and_docs_need_nothing_else(
    client: httpx.Client, photo_file: bytes
) -> None:
    description = client.get("/openapi.json").json()
    post = description["paths"]["/v1/predict"]["post"]
    schemas = {
        status: response["content"]["application/json"]["schema"]
        for status, response in post["responses"].items()
    }
    good = client.post("/v1/predict", files=[("a", ("a", photo_file)), ("b", ("b", b"x"))])
    jsonschema.validate(good.json(), schemas["200"])
    bad = client.post("/v1/predict", content=b"x", headers={"Content-Type": "image/png"})
    assert bad.status_code == 415
    jsonschema.validate(bad.json(), schemas["415"])
    page = client.get("/docs")
    assert "/v1/predict" in page.text and not re.search(r"<script|https?://|src=", page.text)


def test_many_clients_at_once_get_their_own_answers(
    run_server: Callable[..., Any], photo_file: bytes, encode: Encode, face_photo: np.ndarray,
    expected: list[dict[str, Any]],
) -> None:  # fmt: skip
    """Requests are put together into batches, and taken apart again."""
    files = [photo_file, encode(np.zeros((64, 64, 3), np.uint8)), encode(face_photo[:, ::-1])]
    with run_server(ServeLimits(max_batch=4)) as url, httpx.Client(base_url=url) as client:

        def ask(number: int) -> tuple[int, Any]:
            answer = client.post(
                "/v1/predict", content=files[number % 3], headers={"Content-Type": "image/png"},
                timeout=30,
            )  # fmt: skip
            return number % 3, answer.json()["images"][0]["faces"]

        with ThreadPoolExecutor(9) as pool:
            answers = list(pool.map(ask, range(18)))
        for kind, faces in answers:
            assert len(faces) == (0 if kind == 1 else 1)
            assert kind != 0 or same(faces, expected)
        batches, images = metric(client, "cropfirst_batch_images_count"), 18
        assert metric(client, "cropfirst_batch_images_sum") == images
        assert batches < images, "no two images were classified together"


def test_probes_and_metrics_say_how_it_goes(client: httpx.Client, photo_file: bytes) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").status_code == 200
    known = 'cropfirst_faces_total{unknown="known"}'
    count = 'cropfirst_request_seconds_count{path="/v1/predict"}'
    before = [metric(client, name) for name in (known, count, "cropfirst_images_total")]
    refused = 'cropfirst_refused_total{reason="wrong_type"}'
    was_refused = metric(client, refused)
    client.post("/v1/predict", content=photo_file, headers={"Content-Type": "image/png"})
    client.post("/v1/predict", content=photo_file, headers={"Content-Type": "text/plain"})
    after = [metric(client, name) for name in (known, count, "cropfirst_images_total")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 2, 1]
    assert metric(client, refused) == was_refused + 1
    assert metric(client, "cropfirst_active_requests") == 0


def test_a_stream_has_tracks_of_its_own(server: str, photo_file: bytes) -> None:
    address = server.replace("http", "ws") + "/v1/stream"
    with connect(address) as one, connect(address) as other:
        other.send(photo_file)
        assert json.loads(other.recv())["tracks"] == []
        reports = []
        for _ in range(3):
            one.send(photo_file)
            reports.append(json.loads(one.recv()))
        assert [len(each["faces"]) for each in reports] == [1, 1, 1]
        assert [[track["track"] for track in each["tracks"]] for each in reports] == [[], [], [1]]
        assert reports[0]["time"] < reports[1]["time"] < reports[2]["time"]
        one.send(b"no image")
        assert json.loads(one.recv())["error"]["code"] == "not_an_image"
        one.send(photo_file)  # the stream goes on
        assert json.loads(one.recv())["tracks"][0]["track"] == 1


def test_uploads_stay_in_memory(
    client: httpx.Client, photo_file: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With no place for temporary files, whatever would write one fails."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(OSError):
        tempfile.mkstemp()
    noise = np.random.default_rng(0).bytes(1_500_000)  # more than is spooled in memory elsewhere
    files = [("a", ("a.png", photo_file)), ("b", ("b.png", noise))]
    answer = client.post("/v1/predict", files=files)
    assert answer.status_code == 200 and len(answer.json()["images"][0]["faces"]) == 1


def test_no_answer_waits_for_an_acknowledgement(server: str) -> None:
    """With Nagle's algorithm on the server's side, each answer takes 40 ms more."""
    connection = http.client.HTTPConnection(server.rpartition("/")[2], timeout=20)
    times = []
    for _ in range(40):
        began = time.perf_counter()
        connection.request("POST", "/v1/predict", b"x" * 80_000, {"Content-Type": "image/png"})
        assert connection.getresponse().read()
        times.append(time.perf_counter() - began)
    connection.close()
    assert min(times[10:]) < 0.03


def test_the_page_is_served_as_it_is(client: httpx.Client, bundle_folder: Path) -> None:
    """Every file of the page, with the policy that index.html states; workers have no other."""
    for name, content in page_files(bundle_folder).items():
        answer = client.get(f"/{name}")
        assert answer.status_code == 200 and answer.content == content, name
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'"), name
        assert "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert client.get("/").content == client.get("/index.html").content
    assert client.get("/app.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/bundle/").status_code == 404


def test_responses_carry_safe_headers_and_no_cors(client: httpx.Client) -> None:
    for path in ("/docs", "/openapi.json", "/healthz", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers and "server" not in headers
