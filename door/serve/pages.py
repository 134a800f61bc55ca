"""Static pages: each file with the policy of its page. No torch."""

from __future__ import annotations

import functools
import mimetypes
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cropfirst.door.serve.access import HEADERS
from cropfirst.door.web.folder import INDEX, policy_of


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
    return Response(content, media_type=kind, headers=headers)


async def _show(response: Response, request: Request) -> Response:
    return response
