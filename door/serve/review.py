"""The paths below /v1/review: the doubtful crops of a folder, and their labels. No torch."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from cropfirst.core.errors import CropfirstError
from cropfirst.door.crop_folder import PURGE_EVERY, CropFolder, UnknownCropError
from cropfirst.door.serve.access import HEADERS
from cropfirst.door.serve.limits import RefusedError, ServeLimits
from cropfirst.door.serve.pages import page_routes
from cropfirst.door.serve.uploads import read_body
from cropfirst.door.web.folder import review_files

LARGEST_BODY_MB = 0.01
"""Largest body of a request that changes labels."""
PATH = "/v1/review"
LOGGER = logging.getLogger(__name__)
T = TypeVar("T")


class Review:
    """The crops of one folder, and the classes that they can get."""

    def __init__(
        self, crops: CropFolder, tasks: Mapping[str, Sequence[str]], limits: ServeLimits,
        counted: Callable[[], AbstractContextManager[None]],
    ) -> None:  # fmt: skip
        """Prepare.

        Args:
            tasks: task -> names of its classes, in order.
            counted: counts a request while it is answered, and refuses it if too many are.
        """
        self._crops, self._counted = crops, counted
        self._tasks = {task: list(classes) for task, classes in tasks.items()}
        self._limits = replace(limits, max_mb=min(limits.max_mb, LARGEST_BODY_MB))

    def routes(self) -> list[Route]:
        """Return the routes of the page and of its requests."""
        return [
            Route(PATH, self._list),
            Route(f"{PATH}/{{crop}}", self._photo),
            Route(f"{PATH}/{{crop}}", self._label, methods=["PUT"]),
            Route(f"{PATH}/{{crop}}", self._delete, methods=["DELETE"]),
            Route("/review", _redirect),
            *page_routes(review_files(), under="/review"),
        ]

    async def purge_forever(self) -> None:
        """Delete what has expired, now and then."""
        while True:
            try:
                await run_in_threadpool(self._crops.purge)
            except (CropfirstError, OSError) as error:
                LOGGER.error("the expired crops could not be deleted: %s", error)
            await asyncio.sleep(PURGE_EVERY)

    async def _list(self, request: Request) -> Response:
        with self._counted():
            await _do(self._crops.purge)
            crops = [asdict(each) for each in await _do(self._crops.crops)]
        return JSONResponse({"tasks": self._tasks, "crops": crops}, headers=HEADERS)

    async def _photo(self, request: Request) -> Response:
        with self._counted():
            data = await _do(self._crops.photo, request.path_params["crop"])
        # Pages of other servers may not show it either.
        headers = {**HEADERS, "Cross-Origin-Resource-Policy": "same-origin"}
        return Response(data, media_type="image/png", headers=headers)

    async def _label(self, request: Request) -> Response:
        with self._counted():
            labels = self._read_labels(await read_body(request, self._limits))
            crop = await _do(self._crops.label, request.path_params["crop"], labels)
        return JSONResponse(asdict(crop), headers=HEADERS)

    async def _delete(self, request: Request) -> Response:
        with self._counted():
            await _do(self._crops.delete, request.path_params["crop"])
        return Response(status_code=204, headers=HEADERS)

    def _read_labels(self, body: bytes) -> dict[str, str]:
        """Return task -> class of a body, "" for none."""
        try:
            labels = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RefusedError(422, "not_json", "the body is not JSON") from error
        if not isinstance(labels, dict) or not labels:
            raise RefusedError(
                422, "no_labels", 'wanted {TASK: CLASS, ...} as the body, such as {"mask": "wear"}'
            )
        for task, label in labels.items():
            if task not in self._tasks:
                raise RefusedError(
                    422, "unknown_task", f"wanted a task among {', '.join(self._tasks)}"
                )
            if label not in ("", *self._tasks[task]):
                raise RefusedError(
                    422, "unknown_class",
                    f'wanted "" or a class of {task}: {", ".join(self._tasks[task])}',
                )  # fmt: skip
        return labels


async def _redirect(request: Request) -> Response:
    return RedirectResponse("review/", headers=HEADERS)


async def _do(work: Callable[..., T], *arguments: Any) -> T:
    """Work on the folder in a thread.

    Raises:
        RefusedError: there is no such crop, or the folder cannot be read or written.
    """
    try:
        return await run_in_threadpool(work, *arguments)
    except UnknownCropError as error:
        raise RefusedError(
            404, "unknown_crop", "there is no such crop: it has expired, or was deleted"
        ) from error
    except (CropfirstError, OSError) as error:  # it may name folders
        LOGGER.error("the folder of the crops cannot be used: %s", error)
        raise RefusedError(
            500, "folder_failed",
            "the folder of the crops cannot be read or written; the server's output says why",
        ) from error  # fmt: skip
