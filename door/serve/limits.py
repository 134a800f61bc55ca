"""The limits of what the server accepts, and the errors for the rest. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _limit(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class ServeLimits:
    """Limits of one server. Each is an option of `serve`, and has a status code of its own."""

    max_mb: float = _limit(10.0, "Largest request, and frame of a stream, in MB (status 413).")
    max_megapixels: float = _limit(25.0, "Most pixels of a request's images, in millions (413).")
    max_scans: int = _limit(100, "Most scans of a progressive JPEG: passes over its pixels (413).")
    max_images: int = _limit(16, "Most images of a request (413).")
    max_faces: int = _limit(64, "Most faces of an image (422).")
    max_requests: int = _limit(32, "Most requests at once, with those that wait (503).")
    max_streams: int = _limit(8, "Most open streams (503).")
    max_seconds: float = _limit(30.0, "Longest upload (408), and wait for an answer (504).")
    max_batch: int = _limit(8, "Most images that are classified together.")
    max_batches: int = _limit(2, "Most batches that are at work at the same time.")

    @property
    def max_bytes(self) -> int:
        """Largest body in bytes."""
        return round(self.max_mb * 1e6)


class RefusedError(Exception):
    """A request that is refused.

    Attributes:
        status: HTTP status code.
        code: what is wrong, as one word for programs.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def as_dict(self) -> dict[str, str]:
        """Return the error as JSON types."""
        return {"code": self.code, "message": str(self)}


STATUS_OF_READ_ERROR = {
    "TooManyPixels": (413, "too_many_pixels"),
    "TooLargeForMemory": (413, "too_many_pixels"),
    "TooManyScans": (413, "too_many_scans"),
    "NotAnImage": (415, "not_an_image"),
    "NoPixels": (422, "no_pixels"),
}
"""`ReadError.kind` -> status and code; all others are 422 `undecodable`."""
