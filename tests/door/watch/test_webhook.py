"""Events that are sent to a URL: again after a failure, and never at the cost of a frame."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cropfirst.core.errors import DoorError
from cropfirst.door.watch import webhook
from cropfirst.door.watch.webhook import Webhook


class Receiver(ThreadingHTTPServer):
    """Answers with the given status codes, the last one again and again, after a pause."""

    def __init__(self, *statuses: int, pause: float = 0) -> None:
        self.got: list[dict[str, object]] = []
        self.statuses, self.pause = list(statuses), pause
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/hook?x=1"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.server.pause)
        statuses = self.server.statuses
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        if status == 200:
            self.server.got.append({**json.loads(body), "path": self.path})
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(webhook, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(webhook, "TIMEOUT", 0.5)
    yield


def test_events_arrive_in_order_also_after_failures() -> None:
    receiver = Receiver(500, 429, 200)
    hook = Webhook(receiver.url)
    for number in range(5):
        hook.send({"event": "decided", "track": number})
    assert hook.close() == f"{receiver.url.partition('?')[0]}: 5 events sent, 0 dropped"
    assert [each["track"] for each in receiver.got] == [0, 1, 2, 3, 4]
    assert receiver.got[0]["path"] == "/hook?x=1"
    receiver.stop()


@pytest.mark.parametrize(("status", "calls"), [(404, 1), (503, webhook.ATTEMPTS)])
def test_what_cannot_be_sent_is_dropped_and_said(status: int, calls: int) -> None:
    receiver = Receiver(*[status] * calls, 200)
    hook = Webhook(receiver.url)
    hook.send({"track": 1})
    assert hook.close().endswith("0 events sent, 1 dropped")
    assert receiver.statuses == [200]
    receiver.stop()


def test_nobody_there_and_a_slow_receiver_hold_up_no_frame() -> None:
    receiver = Receiver(200, pause=0.2)
    for url in ("http://127.0.0.1:9/", receiver.url):
        hook = Webhook(url)
        began = time.perf_counter()
        for number in range(webhook.WAITING + 50):
            hook.send({"track": number})
        assert time.perf_counter() - began < 0.1 and hook.dropped >= 49
        said = hook.close(seconds=0.3)
        sent, dropped = (int(each.split()[0]) for each in said.rpartition(": ")[2].split(", "))
        assert sent + dropped == webhook.WAITING + 50 and dropped >= 50
    receiver.stop()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://host/", "ftp://host/"), ("file:///etc/passwd", "file:///etc/passwd"),
        ("foo", "foo"), ("me:pw@host/door?key=1", "host/door"), ("http:///x", "http:///x"),
        ("http://host:port/", "http://host:port/"), ("http://host:99999", "http://host:99999"),
        ("http://[::1/", "http://[::1/"),
    ],
)  # fmt: skip
def test_only_http_is_sent_to(url: str, shown: str) -> None:
    with pytest.raises(DoorError) as error:
        Webhook(url)
    wanted = "--webhook wants a URL such as http://127.0.0.1:9000/door"
    assert str(error.value) == f"{wanted}, got {shown}"
