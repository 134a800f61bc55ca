"""The server's application: its paths, and what each does. No torch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Match, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from cropfirst.core.decode import EncodedImage
from cropfirst.core.provenance import describe_versions
from cropfirst.door.bundle import Bundle
from cropfirst.door.crop_folder import CropFolder
from cropfirst.door.serve.access import HEADERS, Access, Guard, error_response
from cropfirst.door.serve.batches import Answer, Batcher
from cropfirst.door.serve.health import Health
from cropfirst.door.serve.limits import RefusedError, ServeLimits
from cropfirst.door.serve.metrics import Metrics
from cropfirst.door.serve.pages import page_routes
from cropfirst.door.serve.review import Review
from cropfirst.door.serve.schema import docs_page, image_json, openapi
from cropfirst.door.serve.stream import Streams
from cropfirst.door.serve.uploads import check_total, open_upload, read_body, split_body

TEXT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class Service:
    """Everything that the paths of one server share."""

    def __init__(
        self, bundle: Bundle, health: Health, limits: ServeLimits, crops: CropFolder | None = None
    ) -> None:
        """Prepare; work begins with the lifespan of the app. `crops` are those to label."""
        self.bundle, self.health, self.limits = bundle, health, limits
        self.metrics = Metrics()
        self.batcher = Batcher(bundle, limits, on_batch=self.metrics.count_batch)
        self.streams = Streams(bundle, self.batcher, limits, self.metrics)
        self.review = None if crops is None else Review(crops, bundle.tasks, limits, self.counted)
        self._active = 0

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Run the batches, and warm up, while the server runs."""
        work = [self.health.is_right(), self.batcher.run()]
        if self.review is not None:
            work.append(self.review.purge_forever())
        tasks = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def predict(self, request: Request) -> Response:
        """Answer the images of a request."""
        with self.counted():
            body = await read_body(request, self.limits)
            parts = split_body(body, request.headers.get("content-type", ""), self.limits)
            opened = await run_in_threadpool(self._open, parts)
            images = [each for each in opened if isinstance(each, EncodedImage)]
            check_total(images, self.limits)
            answers = iter(await self.batcher.answer(images))
        results = [each if isinstance(each, RefusedError) else next(answers) for each in opened]
        refusals = [each for each in results if isinstance(each, RefusedError)]
        if len(refusals) == len(results):
            raise refusals[0]
        for refusal in refusals:
            self.metrics.count_refused(refusal)
        for result in results:
            if isinstance(result, Answer):
                self.metrics.count_faces(result.faces)
        return JSONResponse({"images": [image_json(each) for each in results]}, headers=HEADERS)

    async def healthz(self, request: Request) -> Response:
        """Say whether a golden photo is answered as when it was exported."""
        is_right = await self.health.is_right()
        return _probe(is_right, "the golden photos are answered right", self.health.problem)

    async def readyz(self, request: Request) -> Response:
        """Say whether the bundle is warmed up."""
        return _probe(not self.health.problem, "warmed up", self.health.problem)

    async def show_metrics(self, request: Request) -> Response:
        """Return the metrics for Prometheus."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(self.metrics.as_text(), media_type=kind, headers=HEADERS)

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Turn a refusal into its response."""
        assert isinstance(error, RefusedError)
        self.metrics.count_refused(error)
        return error_response(error)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request while it is answered, and refuse it if too many are."""
        if self._active >= self.limits.max_requests:
            raise RefusedError(
                503, "busy", f"requests that are being answered: {self._active}; ask again"
            )
        self._active += 1
        self.metrics.active.set(self._active)
        try:
            yield
        finally:
            self._active -= 1
            self.metrics.active.set(self._active)

    def _open(self, parts: Sequence[bytes]) -> list[EncodedImage | RefusedError]:
        opened: list[EncodedImage | RefusedError] = []
        for part in parts:
            try:
                opened.append(open_upload(part, self.limits))
            except RefusedError as refusal:
                opened.append(refusal)
        return opened


def make_app(
    service: Service, access: Access, *, page: Mapping[str, bytes] | None = None
) -> ASGIApp:
    """Return the application.

    Args:
        page: path -> content of the files that are served as they are, `index.html` at `/` too.
    """
    version = describe_versions()["cropfirst"]
    review = service.review
    description = openapi(
        service.limits, version=version, needs_key=bool(access.keys), has_review=review is not None
    )
    text = docs_page(description)

    async def show_description(request: Request) -> Response:
        return JSONResponse(description, headers=HEADERS)

    async def show_docs(request: Request) -> Response:
        return HTMLResponse(text, headers={**HEADERS, "Content-Security-Policy": TEXT_POLICY})

    routes: list[Route | WebSocketRoute] = [
        Route("/v1/predict", service.predict, methods=["POST"]),
        WebSocketRoute("/v1/stream", service.streams.follow),
        WebSocketRoute("/{path:path}", _no_stream),
        Route("/v1/stream", _ask_for_upgrade),
        Route("/healthz", service.healthz),
        Route("/readyz", service.readyz),
        Route("/metrics", service.show_metrics),
        Route("/openapi.json", show_description),
        Route("/docs", show_docs),
    ]
    if review is not None:
        routes += review.routes()
    named = [route.path for route in routes if isinstance(route, Route)]
    if page:
        routes += page_routes(page)
    app = Starlette(
        routes=routes,
        lifespan=service.lifespan,
        exception_handlers={
            RefusedError: service.refuse, HTTPException: _no_route, Exception: _failed,
        },
    )  # fmt: skip
    app.router.redirect_slashes = False  # a redirect would repeat the Host of the request
    return Guard(app, access, service.metrics, paths=named)


def _probe(is_well: bool, yes: str, no: str) -> Response:
    body = {"status": "ok" if is_well else "failed", "message": yes if is_well else no}
    return JSONResponse(body, 200 if is_well else 503, HEADERS)


async def _ask_for_upgrade(request: Request) -> Response:
    message = "this path is a WebSocket: wanted a request with Upgrade: websocket"
    response = error_response(RefusedError(426, "not_a_websocket", message))
    response.headers["Upgrade"] = "websocket"
    response.headers["Connection"] = "Upgrade"
    return response


async def _no_stream(socket: WebSocket) -> None:
    message = "there is no WebSocket at this path; /docs describes the requests"
    await socket.send_denial_response(error_response(RefusedError(404, "not_found", message)))


def _methods(request: Request) -> list[str]:
    """Return the methods of the request's path, sorted."""
    there = (
        each.methods or ()
        for each in request.app.routes
        if isinstance(each, Route) and each.matches(request.scope)[0] != Match.NONE
    )
    return sorted({method for methods in there for method in methods})


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = ", ".join(_methods(request))
    code, message = {
        404: ("not_found", "there is nothing at this path; /docs describes the requests"),
        405: ("wrong_method", f"wanted the method {allowed}, got {request.method[:20]}"),
    }.get(error.status_code, ("refused", error.detail))
    response = error_response(RefusedError(error.status_code, code, message))
    if allowed:
        response.headers["Allow"] = allowed
    return response


async def _failed(request: Request, error: Exception) -> Response:
    return error_response(RefusedError(500, "failed", "the server failed; its log says why"))
