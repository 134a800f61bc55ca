"""A real server on this machine, in a thread of the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from running_server import running

from cropfirst.door.serve.limits import ServeLimits
from cropfirst.door.serve.run import Address

DEFAULTS = ServeLimits()
RunServer = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def limits() -> ServeLimits:
    return ServeLimits(
        max_mb=2, max_megapixels=1, max_images=4, max_faces=2, max_requests=4, max_streams=2,
        max_seconds=2,
    )  # fmt: skip


@pytest.fixture(scope="session")
def server(bundle_folder: Path, limits: ServeLimits) -> Iterator[str]:
    with running(bundle_folder, limits, Address(port=0)) as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def run_server(bundle_folder: Path) -> RunServer:
    """Starts another server with limits and an address of its own, in a `with` statement."""
    return lambda limits=DEFAULTS, review=None, **address: running(
        bundle_folder, limits, Address(**{"port": 0, **address}), review=review
    )


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """Returns the file of an (H, W, 3) uint8 RGB image."""
    return lambda image, suffix=".png": cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


@pytest.fixture(scope="session")
def photo_file(face_photo: np.ndarray, encode: Callable[..., bytes]) -> bytes:
    return encode(face_photo)
