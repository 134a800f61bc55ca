"""The crops to label over HTTP: what is answered, what is refused, and what is never reached."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from cropfirst.core.errors import DoorError
from cropfirst.door.crop_folder import DAY, CropFolder
from cropfirst.door.serve import review
from cropfirst.door.serve.limits import ServeLimits
from cropfirst.stage2_classify.datasets import open_dataset

KEY = "first-key-0123456789"
PATH = "/v1/review"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("review") / "kept"


@pytest.fixture(scope="module")
def keyed(
    run_server: Callable[..., Any], folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(KEY)
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(review, "PURGE_EVERY", 0.05)
        with run_server(ServeLimits(max_seconds=2), review=folder, api_key_file=keys) as url:
            yield url


@pytest.fixture
def client(keyed: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=keyed, headers=headers, timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture
def ids(folder: Path) -> list[str]:
    """Four crops that were just taken, in a folder with nothing else."""
    for path in folder.iterdir():
        path.unlink()
    watch = CropFolder(folder, ["mask"])
    for index in range(4):
        watch.add(np.full((30, 30, 3), index, np.uint8), time.time() - 100 + index)
    return [each.id for each in watch.crops()]


def put(client: httpx.Client, crop: str, body: Any, **headers: str) -> tuple[int, str]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.put(f"{PATH}/{crop}", content=content, headers=headers)
    return answer.status_code, answer.json().get("error", {}).get("code", "")


def labels(folder: Path) -> list[dict[str, Any]]:
    return [dict(sample.labels) for sample in open_dataset(folder).samples]


def test_crops_are_listed_shown_labelled_and_deleted_as_described(
    client: httpx.Client, folder: Path, ids: list[str]
) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    CropFolder(folder, ["mask"]).expire_after(2)
    listed = client.get(PATH).json()
    jsonschema.validate(listed, _schema(paths[PATH]["get"]))
    assert listed["tasks"] == {"mask": ["wear", "incorrect", "normal"]}
    assert [each["id"] for each in listed["crops"]] == ids
    assert all(each["expires"] - each["taken"] == 2 * DAY for each in listed["crops"])
    photo = client.get(f"{PATH}/{ids[0]}")
    assert photo.content == (folder / f"{ids[0]}.png").read_bytes()
    assert photo.headers["content-type"] == "image/png"
    assert photo.headers["cross-origin-resource-policy"] == "same-origin"
    assert photo.headers["cache-control"] == "no-store"
    saved = client.put(f"{PATH}/{ids[0]}", json={"mask": "normal"}).json()
    jsonschema.validate(saved, _schema(paths[f"{PATH}/{{crop}}"]["put"]))
    assert saved["labels"] == {"mask": "normal"} == labels(folder)[0]
    assert put(client, ids[0], {"mask": ""}) == (200, "")
    assert client.delete(f"{PATH}/{ids[3]}").status_code == 204
    assert labels(folder) == [{}, {}, {}] and not (folder / f"{ids[3]}.png").exists()
    refused = client.delete(f"{PATH}/{ids[3]}")
    assert refused.status_code == 404
    jsonschema.validate(refused.json(), _schema(paths[f"{PATH}/{{crop}}"]["delete"], "404"))
    assert "PUT /v1/review/{crop}" in client.get("/docs").text


def _schema(operation: dict[str, Any], status: str = "200") -> dict[str, Any]:
    schema: dict[str, Any] = operation["responses"][status]["content"]["application/json"]["schema"]
    return schema


def test_hostile_requests_change_nothing(
    client: httpx.Client, keyed: str, folder: Path, ids: list[str]
) -> None:
    secret = folder.parent / "20270101-000000-0123abcd.png"
    secret.write_bytes(b"secret")
    with (folder / "labels.csv").open("a") as file:
        file.write(f"../{secret.name},x,\n{secret},x,\n")
    before = (folder / "labels.csv").read_bytes()
    good = {"mask": "wear"}
    for crop in (
        "0", "labels", "labels.csv", "%2e%2e", f"..%2f{secret.stem}", f"%2e%2e%2f{secret.stem}",
        f"..%5c{secret.stem}", f"{str(secret)[:-4]}".replace("/", "%2f"), f"{ids[0]}.png",
        f"{ids[0]}%00", ids[0].upper().replace("A", "B") + "0", "a" * 4000, "%ff%fe",
    ):  # fmt: skip
        assert client.get(f"{PATH}/{crop}").status_code == 404, crop
        assert put(client, crop, good)[0] == 404, crop
        assert client.delete(f"{PATH}/{crop}").status_code == 404, crop
    for body, wanted in (
        (b"", (422, "not_json")), (b"\xff", (422, "not_json")), (b"[" * 9000, (422, "not_json")),
        ([], (422, "no_labels")), ({}, (422, "no_labels")), ("wear", (422, "no_labels")),
        ({"helmet": "on"}, (422, "unknown_task")), ({"path": "a.png"}, (422, "unknown_task")),
        ({"mask": "Wear"}, (422, "unknown_class")), ({"mask": None}, (422, "unknown_class")),
        ({"mask": ["wear"]}, (422, "unknown_class")), ({"mask": "=1+1"}, (422, "unknown_class")),
        ({**good, "group": "x"}, (422, "unknown_task")), (b" " * 20_000, (413, "too_large")),
    ):  # fmt: skip
        assert put(client, ids[0], body) == wanted, body
    for headers, wanted in (
        ({"Authorization": ""}, (401, "wrong_key")),
        ({"Authorization": "Bearer other-key-0123456789"}, (401, "wrong_key")),
        ({"Host": "evil.example"}, (421, "wrong_host")),
        ({"Origin": "http://evil.example"}, (403, "wrong_origin")),
    ):
        assert put(client, ids[0], good, **headers) == wanted
        for path in (PATH, f"{PATH}/{ids[0]}"):
            assert client.get(path, headers=headers).status_code == wanted[0]
        assert client.delete(f"{PATH}/{ids[0]}", headers=headers).status_code == wanted[0]
    assert client.post(PATH).headers["allow"] == "GET, HEAD"
    wrong = client.post(f"{PATH}/{ids[0]}")
    assert wrong.status_code == 405 and wrong.headers["allow"] == "DELETE, GET, HEAD, PUT"
    assert secret.read_bytes() == b"secret"
    assert (folder / "labels.csv").read_bytes() == before
    assert [each["id"] for each in client.get(PATH).json()["crops"]] == ids


def test_what_happens_to_the_folder_meanwhile(
    client: httpx.Client, folder: Path, ids: list[str]
) -> None:
    """A photo goes, watch adds one, and a table that cannot be used is said and kept."""
    (folder / f"{ids[0]}.png").unlink()
    assert put(client, ids[0], {"mask": "wear"}) == (404, "unknown_crop")
    CropFolder(folder, ["mask"]).add(np.zeros((9, 9, 3), np.uint8), time.time())
    assert len(client.get(PATH).json()["crops"]) == 4
    (folder / "labels.csv").write_text("path,group,helmet\n")
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "folder_failed")
    assert str(folder) not in answer.text
    assert put(client, ids[1], {"mask": "wear"}) == (500, "folder_failed")
    assert (folder / "labels.csv").read_text() == "path,group,helmet\n"


def test_crops_expire_while_the_server_runs(
    client: httpx.Client, folder: Path, ids: list[str]
) -> None:
    """Also if nobody asks: no request is made until the photos are gone."""
    put(client, ids[0], {"mask": "wear"})
    CropFolder(folder, ["mask"]).expire_after(98.5 / DAY)  # the oldest two
    deadline = time.monotonic() + 5
    while len(left := {path.stem for path in folder.glob("*.png")}) > 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert left <= set(ids[2:])
    assert {sample.group for sample in open_dataset(folder).samples} <= set(ids[2:])
    assert put(client, ids[0], {"mask": "wear"}) == (404, "unknown_crop")


def test_the_page_has_a_policy_of_its_own_and_needs_no_key(keyed: str) -> None:
    with httpx.Client(base_url=keyed, trust_env=False) as client:
        moved = client.get("/review")
        assert (moved.status_code, moved.headers["location"]) == (307, "review/")
        for name in ("", "index.html", "review.js", "strings.js", "style.css"):
            page = client.get(f"/review/{name}")
            assert page.status_code == 200, name
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; connect-src 'self'; ")
            assert "eval" not in policy and "frame-ancestors 'none'" in policy
        assert "http" not in client.get("/review/").text.replace("http-equiv", "")


def test_a_folder_of_other_tasks_is_refused(run_server: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,group,helmet\n")
    with (
        pytest.raises(DoorError, match="wanted path, group and mask"),
        run_server(review=tmp_path),
    ):
        pass


def test_a_server_without_the_option_has_no_review(server: str) -> None:
    with httpx.Client(base_url=server, trust_env=False) as client:
        for path in (PATH, "/review", "/review/"):
            assert client.get(path).status_code == 404
        assert PATH not in client.get("/openapi.json").json()["paths"]
