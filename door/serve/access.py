"""The check of who may ask: the Host and Origin of a request, and its key. No torch.

The Host is checked against DNS rebinding, where a stranger's page reaches a server on this machine
under a name of its own; the Origin against pages that send without being able to read the answer.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from cropfirst.core.errors import DoorError
from cropfirst.door.serve.limits import RefusedError
from cropfirst.door.serve.metrics import Metrics

LOCAL = ("127.0.0.1", "localhost", "::1")
SHORTEST_KEY = 16
"""Characters of the shortest key that is accepted in a file."""
PROBES = ("/healthz", "/readyz")
"""Paths for everybody: they tell nothing but whether the server works."""
NEED_KEY = ("/v1/", "/metrics")
"""Beginnings of the paths that need the key, where there is one."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """The rules of one server."""

    hosts: frozenset[str]
    """Host names, in lower case, by which the server may be called."""
    keys: tuple[bytes, ...] = ()
    """SHA-256 of each key; none means that no key is needed."""

    def check(self, headers: Headers, path: str) -> None:
        """Check a request.

        Raises:
            RefusedError: its host, origin or key is not allowed.
        """
        hosts = headers.getlist("host")
        if len(hosts) != 1 or host_name(hosts[0]) not in self.hosts:
            raise RefusedError(
                421, "wrong_host", "the server does not have this name (serve --allow-host NAME)"
            )
        origins = [each.partition("://")[2].lower() for each in headers.getlist("origin")]
        if origins not in ([], [hosts[0].lower()]):
            raise RefusedError(403, "wrong_origin", "pages of other servers may not ask this one")
        if self.keys and path.startswith(NEED_KEY):
            kind, _, key = headers.get("authorization", "").partition(" ")
            digest = hashlib.sha256(key.strip().encode()).digest()
            # All are compared, each in constant time.
            matches = [hmac.compare_digest(digest, each) for each in self.keys]
            if kind.lower() != "bearer" or not any(matches):
                raise RefusedError(401, "wrong_key", "wanted a header Authorization: Bearer KEY")


def check_length(headers: Headers) -> None:
    """Check that a body has one length: of two, a proxy may believe the other one.

    Raises:
        RefusedError: it has two.
    """
    if "content-length" in headers and "transfer-encoding" in headers:
        raise RefusedError(400, "two_lengths", "give Content-Length or Transfer-Encoding, not both")


def host_name(host: str) -> str:
    """Return the name in a Host header, in lower case, without a port; "" for a wrong one."""
    found = re.fullmatch(
        r"(?:\[(?P<ip6>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d{0,5})?", host.lower()
    )
    return "" if found is None else found["ip6"] or found["name"]


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Return the hashes of the keys in a file, one key a line.

    Raises:
        DoorError: the file is missing, has no key, or one that is too short.
    """
    try:
        keys = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DoorError(f"cannot read the keys in {path}: {error}") from error
    if not keys or min(map(len, keys)) < SHORTEST_KEY:
        raise DoorError(
            f"wanted keys of at least {SHORTEST_KEY} characters in {path}, one a line; a good one: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)


class Guard:
    """ASGI middleware that checks every request, and counts and times it."""

    def __init__(
        self, app: ASGIApp, access: Access, metrics: Metrics, *, paths: Sequence[str]
    ) -> None:
        """Wrap an app; `paths` are those that metrics name, all others are `other`."""
        self._app, self._access, self._metrics = app, access, metrics
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, stream or the server's start and end."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        refusal = None
        try:
            headers = Headers(scope=scope)
            check_length(headers)
            if path not in PROBES:
                self._access.check(headers, path)
        except RefusedError as error:
            refusal = error
            self._metrics.count_refused(error)
        if scope["type"] == "websocket":
            if refusal is not None:
                response = error_response(refusal)
                await WebSocket(scope, receive, send).send_denial_response(response)
            else:
                await self._app(scope, receive, send)
            return
        name = path if path in self._paths else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(name, message["status"]).inc()
            await send(message)

        with self._metrics.seconds.labels(name).time():
            app = self._app if refusal is None else error_response(refusal)
            await app(scope, receive, counted)


def error_response(refusal: RefusedError) -> JSONResponse:
    """Return the response for a refused request."""
    headers = dict(HEADERS)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.status == 503:
        headers["Retry-After"] = "1"
    # Of an upload that was not read to its end, the rest would be taken for the next request.
    if refusal.status in (400, 408, 413):
        headers["Connection"] = "close"
    return JSONResponse({"error": refusal.as_dict()}, refusal.status, headers)
