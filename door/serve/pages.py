"""Static pages: each file with the policy of its page. No torch."""

from __future__ import annotations

import functools
import mimetypes
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cropfirst.door.serve.access import HEADERS
from cropfirst.door.web.folder import INDEX, policy_of

PART_BYTES = 1 << 18
"""Number of bytes of a file that are sent at once."""


class FileResponse(Response):
    """A file that is sent in parts, so that slow clients do not hold a copy of it each."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then the parts, each when the client has taken in the one before."""
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        for at in range(0, len(self.body), PART_BYTES):
            await send(
                {"type": "http.response.body", "body": self.body[at : at + PART_BYTES],
                 "more_body": True}
            )  # fmt: skip
        await send({"type": "http.response.body", "body": b""})


def page_routes(files: Mapping[str, bytes], *, under: str = "") -> list[Route]:
    """Return the routes of a page.

    Args:
        files: path -> content; `index.html` is also at the path of its folder.
        under: path of that folder, without the last slash.
    """
    routes = []
    for name, content in files.items():
        show = functools.partial(_show, _response(name, content, policy_of(files[INDEX])))
        routes.append(Route(f"{under}/{name}", show))
        if name == INDEX:
            routes.append(Route(f"{under}/", show))
    return routes


def _response(name: str, content: bytes, policy: str) -> Response:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    policy = f"{policy}; frame-ancestors 'none'"
    headers = {**HEADERS, "Cache-Control": "no-cache", "Content-Security-Policy": policy}
    return FileResponse(content, media_type=kind, headers=headers)


async def _show(response: Response, request: Request) -> Response:
    return response
