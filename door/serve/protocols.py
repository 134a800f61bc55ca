"""The connections of a server: HTTP and WebSockets, with time limits for clients that hang.

uvicorn's protocols wait for ever for the head of a request and for a client that takes in nothing,
and answer what is no HTTP with plain text or not at all. Knows nothing of requests. No torch.
"""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

HEADER_SECONDS = 10.0
"""Seconds for the head of a request, from the first connection or from its first byte; also for the
rest of a body after its answer."""
STALLED_SECONDS = 10.0
"""Seconds after which a connection is ended whose client takes in nothing of what is sent."""
_ERROR = {"code": "bad_request", "message": "the request is not valid HTTP"}
_BODY = json.dumps({"error": _ERROR}, separators=(",", ":")).encode()
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"connection", b"close"),
]


class StallTimer:
    """Ends a connection while bytes wait to be sent and the client takes in none of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        """Prepare; the transport tells its protocol of every byte that has to wait."""
        self._loop, self._transport = loop, transport
        self._timer: asyncio.TimerHandle | None = None
        transport.set_write_buffer_limits(high=1)

    def start(self) -> None:
        """Watch: from now on, bytes wait."""
        self.stop()
        size = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(STALLED_SECONDS, self._check, size)

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, before: int) -> None:
        if self._transport.get_write_buffer_size() < before:
            self.start()
        else:
            self._transport.abort()


class HttpProtocol(H11Protocol):
    """HTTP/1.1 whose requests have to begin, and to end their head, in time."""

    _timer: asyncio.TimerHandle | None = None
    _stall: StallTimer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first request."""
        super().connection_made(transport)
        self._stall = StallTimer(self.loop, transport)
        self._timer = self.loop.call_later(HEADER_SECONDS, self._close_idle)

    def data_received(self, data: bytes) -> None:
        """Take in bytes; the time runs while a head, or a body after its answer, is incomplete."""
        super().data_received(data)
        state = self.conn.their_state
        is_answered = state is h11.SEND_BODY and self.conn.our_state is h11.DONE
        if state is not h11.IDLE and not is_answered:
            self._stop_timer()
        elif self._timer is None and (is_answered or self.conn.trailing_data[0]):
            self._timer = self.loop.call_later(HEADER_SECONDS, self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the times."""
        self._stop_timer()
        self._stall.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the time for a client that takes in nothing."""
        super().pause_writing()
        self._stall.start()

    def resume_writing(self) -> None:
        """Stop that time."""
        self._stall.stop()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer has begun, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = h11.Response(status_code=400, headers=_HEADERS, reason=b"Bad Request")
            for event in (response, h11.Data(data=_BODY), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_idle(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class StreamProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose client cannot make the server hold what it does not take in."""

    _stall: StallTimer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over a connection from HTTP."""
        super().connection_made(transport)
        self._stall = StallTimer(self.loop, self.transport)
        self.close_timeout = STALLED_SECONDS  # for the client's own close frame

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._stall.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes; refuse a head that is none of a WebSocket."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            head = b"".join(b"%b: %b\r\n" % each for each in _HEADERS)
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + _BODY)
            self.transport.close()

    def pause_writing(self) -> None:
        """Read no more, since pings are answered with as many bytes, and start the time."""
        super().pause_writing()
        self.transport.pause_reading()
        self._stall.start()

    def resume_writing(self) -> None:
        """Stop the time, and read again unless a message waits."""
        self._stall.stop()
        super().resume_writing()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()
