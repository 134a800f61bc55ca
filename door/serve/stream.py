"""WebSocket /v1/stream: one camera's frames in, faces, tracks and events out. No torch."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from cropfirst.door.bundle import Bundle
from cropfirst.door.serve.access import error_response
from cropfirst.door.serve.batches import Answer, Batcher
from cropfirst.door.serve.limits import RefusedError, ServeLimits
from cropfirst.door.serve.metrics import Metrics
from cropfirst.door.serve.schema import image_json
from cropfirst.door.serve.uploads import check_total, open_upload
from cropfirst.door.sightings import choose_task, sighting_of, start_tracks
from cropfirst.door.tracks import Tracks

UNSUPPORTED = 1003
"""Close code after a message that is no frame."""


class Streams:
    """The open streams of a server, each with tracks of its own."""

    def __init__(
        self, bundle: Bundle, batcher: Batcher, limits: ServeLimits, metrics: Metrics
    ) -> None:
        """Prepare for the first stream."""
        self._bundle, self._batcher = bundle, batcher
        self._limits, self._metrics = limits, metrics
        self._task = choose_task(bundle)
        self._count = 0

    async def follow(self, socket: WebSocket) -> None:
        """Answer the frames of one stream until it is closed, or silent for too long."""
        if self._count >= self._limits.max_streams:
            refusal = RefusedError(503, "busy", f"open streams: {self._count}; try again later")
            self._metrics.count_refused(refusal)
            await socket.send_denial_response(error_response(refusal))
            return
        self._count += 1
        self._metrics.streams.set(self._count)
        try:
            await socket.accept()
            with contextlib.suppress(WebSocketDisconnect):
                await self._answer_frames(socket)
        finally:
            self._count -= 1
            self._metrics.streams.set(self._count)

    async def _answer_frames(self, socket: WebSocket) -> None:
        tracks = start_tracks(self._bundle, self._task)
        began = time.monotonic()
        while True:
            try:
                message = await asyncio.wait_for(socket.receive(), self._limits.max_seconds)
            except (TimeoutError, asyncio.TimeoutError):
                await socket.close(1000, "no frame came")
                return
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is None:
                await socket.close(UNSUPPORTED, "wanted an encoded image as a binary message")
                return
            try:
                answer = await self._answer(message["bytes"])
            except RefusedError as refusal:
                self._metrics.count_refused(refusal)
                await socket.send_json({"error": refusal.as_dict()})
                continue
            self._metrics.count_faces(answer.faces)
            await socket.send_json(self._report(answer, tracks, time.monotonic() - began))

    async def _answer(self, data: bytes) -> Answer:
        image = await run_in_threadpool(open_upload, data, self._limits)
        check_total([image], self._limits)
        (result,) = await self._batcher.answer([image])
        if isinstance(result, RefusedError):
            raise result
        return result

    def _report(self, answer: Answer, tracks: Tracks, seconds: float) -> dict[str, Any]:
        events = tracks.step(seconds, [sighting_of(face, self._task) for face in answer.faces])
        return {
            "time": seconds,
            **image_json(answer),
            "tracks": [
                {
                    "track": track.id, "state": track.state, "doubtful": track.doubtful,
                    "box": list(track.box), "is_visible": track.last_seen == seconds,
                }
                for track in tracks.live
            ],
            "events": [event.as_dict() for event in events],
            "minutes": [count.as_dict() for count in tracks.take_finished_minutes()],
        }  # fmt: skip
