"""Counts and times of a server, as Prometheus reads them. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cropfirst.door.faces import Face
from cropfirst.door.serve.limits import RefusedError

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
IMAGES = (1, 2, 4, 8, 16)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.seconds = Histogram(
            "cropfirst_request_seconds", "Time from a request to its answer.", ["path"],
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self.requests = Counter(
            "cropfirst_requests", "Requests by path and status.", ["path", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._refused = Counter(
            "cropfirst_refused", "Requests, images and streams that were refused, by reason.",
            ["reason"], registry=self._registry,
        )  # fmt: skip
        self.active = Gauge(
            "cropfirst_active_requests", "Requests that are answered now.", registry=self._registry
        )
        self.streams = Gauge("cropfirst_streams", "Open streams.", registry=self._registry)
        self.images = Counter("cropfirst_images", "Images answered.", registry=self._registry)
        self.faces = Counter(
            "cropfirst_faces", "Faces found; unknown ones by reason, others as known.",
            ["unknown"], registry=self._registry,
        )  # fmt: skip
        self.unsure = Counter(
            "cropfirst_unsure_faces", "Known faces without a single possible class, by task.",
            ["task"], registry=self._registry,
        )  # fmt: skip
        self.batches = Histogram(
            "cropfirst_batch_images", "Images that were classified together.", buckets=IMAGES,
            registry=self._registry,
        )  # fmt: skip
        self.batch_seconds = Histogram(
            "cropfirst_batch_seconds", "Time of the bundle for one batch.", buckets=SECONDS,
            registry=self._registry,
        )  # fmt: skip

    def count_batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self.batches.observe(images)
        self.batch_seconds.observe(seconds)

    def count_refused(self, refusal: RefusedError) -> None:
        """Count a request, an image or a stream that was refused."""
        self._refused.labels(refusal.code).inc()

    def count_faces(self, faces: Sequence[Face]) -> None:
        """Count an image and its faces."""
        self.images.inc()
        for face in faces:
            self.faces.labels(face.unknown or "known").inc()
            for task, answer in face.answers.items():
                if face.unknown is None and not answer.is_sure:
                    self.unsure.labels(task).inc()

    def as_text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)
