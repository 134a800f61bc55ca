"""From the body of a request to images whose headers were checked. No torch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from cropfirst.core.decode import EncodedImage, ReadError, decode_image, open_image
from cropfirst.core.text import count_of
from cropfirst.door.serve.limits import STATUS_OF_READ_ERROR, RefusedError, ServeLimits

RAW_TYPES = ("image/", "application/octet-stream")
MULTIPART = "multipart/form-data"


async def read_body(request: Request, limits: ServeLimits) -> bytes:
    """Read the body of a request into memory.

    Raises:
        RefusedError: it is larger, or takes longer, than the limits allow.
    """
    stated = request.headers.get("content-length", "0")
    if stated.isdigit() and int(stated) > limits.max_bytes:
        raise _too_large(limits)

    async def collect() -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > limits.max_bytes:
                raise _too_large(limits)
        return bytes(body)

    try:
        return await asyncio.wait_for(collect(), limits.max_seconds)
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise RefusedError(
            408, "slow_upload", f"the body did not arrive within {limits.max_seconds:g} s"
        ) from error
    except ClientDisconnect as error:
        raise RefusedError(400, "incomplete", "the body ended too early") from error


def split_body(body: bytes, content_type: str, limits: ServeLimits) -> list[bytes]:
    """Return the images of a body: itself, or the files of a form.

    Raises:
        RefusedError: it is of another type, no form, empty, or has too many files.
    """
    kind, options = parse_options_header(content_type)
    name = kind.decode("latin-1").lower()
    if name.startswith(RAW_TYPES):
        images = [body] if body else []
    elif name == MULTIPART:
        images = _form_files(body, options.get(b"boundary", b""), limits)
    else:
        raise RefusedError(
            415, "wrong_type",
            f"wanted an image as the body (image/jpeg, application/octet-stream) or files in "
            f"{MULTIPART}, got {name[:100] or 'no content type'!r}",
        )  # fmt: skip
    if not images:
        raise RefusedError(422, "no_image", "the request has no image")
    return images


def open_upload(data: bytes, limits: ServeLimits) -> EncodedImage:
    """Check the header of an image; decodes no pixel.

    Raises:
        RefusedError: it is no image, or beyond the limits.
    """
    try:
        return open_image(data, limits)
    except ReadError as error:
        raise refusal_of(error, limits) from error


def check_total(images: Sequence[EncodedImage], limits: ServeLimits) -> None:
    """Refuse images that have too many pixels together."""
    total = sum(image.size[0] * image.size[1] for image in images)
    if total > limits.max_megapixels * 1e6:
        raise RefusedError(
            413, "too_many_pixels",
            f"the images have {total / 1e6:.1f} megapixels together, the limit is "
            f"{limits.max_megapixels:g}",
        )  # fmt: skip


def refusal_of(error: ReadError, limits: ServeLimits) -> RefusedError:
    """Return the refusal for an image that cannot be read."""
    status, code = STATUS_OF_READ_ERROR.get(error.kind, (422, "undecodable"))
    if code == "too_many_pixels":
        text = f"the image has more than {limits.max_megapixels:g} megapixels"
    elif code == "too_many_scans":
        text = f"a progressive JPEG of more than {limits.max_scans} scans"
    else:
        text = str(error)
    return RefusedError(status, code, text)


def decode_upload(image: EncodedImage, limits: ServeLimits) -> np.ndarray:
    """Return the pixels of an image, (H, W, 3) uint8 RGB.

    Raises:
        RefusedError: the data is broken.
    """
    try:
        return decode_image(image)
    except ReadError as error:
        raise refusal_of(error, limits) from error


def _form_files(body: bytes, boundary: bytes, limits: ServeLimits) -> list[bytes]:
    """Return the content of each file of a form, in order; fields that are no files are refused."""
    files: list[bytearray] = []
    header, value, is_file, has_ended = bytearray(), bytearray(), False, False

    def on_part_begin() -> None:
        nonlocal is_file
        is_file = False
        if len(files) >= limits.max_images:
            raise RefusedError(
                413,
                "too_many_images",
                f"more than {count_of(limits.max_images, 'image')} in a request",
            )
        files.append(bytearray())

    def on_header_end() -> None:
        nonlocal is_file
        if bytes(header).lower() == b"content-disposition":
            is_file = b"filename" in parse_options_header(bytes(value))[1]
        header.clear()
        value.clear()

    def on_headers_finished() -> None:
        if not is_file:
            raise RefusedError(422, "not_a_file", "a part of the form is no file")

    def on_end() -> None:
        nonlocal has_ended
        has_ended = True

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": on_part_begin,
                "on_header_field": lambda data, start, end: header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": on_header_end,
                "on_headers_finished": on_headers_finished,
                "on_part_data": lambda data, start, end: files[-1].extend(data[start:end]),
                "on_end": on_end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RefusedError(422, "broken_form", "the form is broken") from error
    if not has_ended:
        raise RefusedError(
            422, "broken_form", "the form is incomplete: its last boundary is missing"
        )
    return [bytes(file) for file in files]


def _too_large(limits: ServeLimits) -> RefusedError:
    return RefusedError(413, "too_large", f"the body is larger than {limits.max_mb:g} MB")
