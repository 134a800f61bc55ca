"""The answers as JSON, their OpenAPI description, and a page that shows it. No torch."""

from __future__ import annotations

import html
import json
from typing import Any

from cropfirst.door.faces import Face
from cropfirst.door.serve.batches import Answer
from cropfirst.door.serve.limits import RefusedError, ServeLimits

_NUMBER, _TEXT = {"type": "number"}, {"type": "string"}


def face_json(face: Face) -> dict[str, Any]:
    """Return a face as JSON types; see `FACE`."""
    return {
        "box": [float(value) for value in face.box],
        "landmarks": [[float(x), float(y)] for x, y in face.landmarks],
        "score": float(face.score),
        "status": face.status,
        "size": float(face.size),
        "sharpness": float(face.sharpness),
        "unknown": face.unknown,
        "answers": {
            task: {
                "probabilities": {name: float(p) for name, p in answer.probabilities.items()},
                "possible": list(answer.possible),
                "prediction": answer.prediction,
            }
            for task, answer in face.answers.items()
        },
    }


def image_json(result: Answer | RefusedError) -> dict[str, Any]:
    """Return the answer about one image as JSON types; see `IMAGE`."""
    if isinstance(result, RefusedError):
        return {"width": None, "height": None, "faces": [], "error": result.as_dict()}
    faces = [face_json(face) for face in result.faces]
    return {"width": result.width, "height": result.height, "faces": faces, "error": None}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], length: int | None = None) -> dict[str, Any]:
    size = {} if length is None else {"minItems": length, "maxItems": length}
    return {"type": "array", "items": items, **size}


ERROR = _object(code=_TEXT, message=_TEXT)
TASK_ANSWER = _object(
    probabilities={
        "type": "object",
        "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
        "description": "probability of each class",
    },
    possible={**_list(_TEXT), "description": "classes that stay possible; one = sure"},
    prediction={**_TEXT, "description": "the most probable class"},
)
FACE = _object(
    box={**_list(_NUMBER, 4), "description": "x1, y1, x2, y2 in pixels of the upright image"},
    landmarks={
        **_list(_list(_NUMBER, 2), 5),
        "description": "x, y of both eyes, the nose and both corners of the mouth",
    },
    score={**_NUMBER, "description": "score of the detector, 0 to 1"},
    status={"type": "string", "enum": ["detected", "retried"]},
    size={**_NUMBER, "description": "shorter side of the box in pixels"},
    sharpness={**_NUMBER, "minimum": 0},
    unknown={
        "type": ["string", "null"],
        "enum": ["too small", "blurred", "turned", None],
        "description": "why the answers are not to be used; null where they are",
    },
    answers={"type": "object", "additionalProperties": TASK_ANSWER},
)
IMAGE = _object(
    width={"type": ["integer", "null"], "description": "pixels, upright; null after an error"},
    height={"type": ["integer", "null"]},
    faces={**_list(FACE), "description": "the main face first"},
    error={"anyOf": [ERROR, {"type": "null"}]},
)
PREDICTION = _object(images={**_list(IMAGE), "description": "one per image, in order"})
REFUSALS = {
    "400": "not valid HTTP, a body with two lengths, or one that ended too early",
    "401": "the key is missing or wrong",
    "403": "the request comes from a page of another server",
    "408": "the body arrived too slowly",
    "413": "too many bytes, pixels or images",
    "415": "not an image",
    "421": "the server does not have the name in Host",
    "422": "a broken image or form, or too many faces",
    "503": "too many requests at once: ask again later",
    "504": "the answer took too long",
}


LABELS = {
    "type": "object",
    "additionalProperties": _TEXT,
    "description": 'task -> class, "" for none',
}
CROP = _object(
    id={**_TEXT, "description": "names the crop in requests"},
    taken={**_NUMBER, "description": "Unix time of the picture"},
    expires={"type": ["number", "null"], "description": "Unix time of its deletion; null = never"},
    labels=LABELS,
)
CROPS = _object(
    tasks={
        "type": "object",
        "additionalProperties": _list(_TEXT),
        "description": "classes of each task, in order",
    },
    crops={**_list(CROP), "description": "the oldest first"},
)


def openapi(
    limits: ServeLimits, *, version: str, needs_key: bool, has_review: bool = False
) -> dict[str, Any]:
    """Return the description of the server in OpenAPI 3.1.

    Args:
        has_review: whether it shows crops to label.
    """
    security: dict[str, Any] = {"security": [{"key": []}]} if needs_key else {}
    files = _object(images=_list({"type": "string", "format": "binary"}))
    predict = {
        "summary": "Find the faces in images and classify each.",
        "description": f"At most {limits.max_images} images, {limits.max_mb:g} MB and "
        f"{limits.max_megapixels:g} megapixels in one request, and {limits.max_faces} faces in an "
        "image. An image that cannot be read has its own error; the request fails if all do. "
        "Nothing is stored.",
        "requestBody": {
            "required": True,
            "content": {
                "image/*": {"schema": {"type": "string", "format": "binary"}},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {"schema": files},
            },
        },
        "responses": {
            "200": _json("the faces", PREDICTION),
            **_refusals(*REFUSALS),
        },
        **security,
    }
    probe = {"200": {"description": "yes"}, "503": {"description": "no"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "cropfirst", "version": version, "description": STREAM},
        "paths": {
            "/v1/predict": {"post": predict},
            "/healthz": {
                "get": {"summary": "Is a golden photo answered right?", "responses": probe}
            },
            "/readyz": {"get": {"summary": "Is the bundle warmed up?", "responses": probe}},
            "/metrics": {
                "get": {
                    "summary": "Counts and times in Prometheus's text format.",
                    "responses": {"200": {"description": "the metrics"}},
                }
            },
            **(_review_paths(security) if has_review else {}),
        },
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _review_paths(security: dict[str, Any]) -> dict[str, Any]:
    """Return the paths of the crops to label."""
    common = _refusals("401", "403", "421", "503")
    failed = _object(error=ERROR)
    known = {**common, "404": _json("no such crop, or none any more", failed)}
    body = {"required": True, "content": {"application/json": {"schema": LABELS}}}
    photo = {"description": "the picture", "content": {"image/png": {}}}
    return {
        "/v1/review": {
            "get": {
                "summary": "List the crops of doubtful tracks, with their labels.",
                "responses": {"200": _json("the crops", CROPS), **common},
                **security,
            }
        },
        "/v1/review/{crop}": {
            "parameters": [{"name": "crop", "in": "path", "required": True, "schema": _TEXT}],
            "get": {
                "summary": "Return the picture of a crop.",
                "responses": {"200": photo, **known},
                **security,
            },
            "put": {
                "summary": "Set the labels of a crop; those of other tasks stay.",
                "requestBody": body,
                "responses": {
                    "200": _json("the crop", CROP),
                    **known,
                    **_refusals("400", "408", "413"),
                    "422": _json("not JSON, or no task or class of the bundle", failed),
                },
                **security,
            },
            "delete": {
                "summary": "Delete a crop.",
                "responses": {"204": {"description": "it is deleted"}, **known},
                **security,
            },
        },
    }


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: str) -> dict[str, Any]:
    return {status: _json(REFUSALS[status], _object(error=ERROR)) for status in statuses}


STREAM = (
    "WebSocket /v1/stream: send each frame as one binary message, an encoded image, and wait for "
    "its answer before the next one. The answer is JSON with time (seconds), width, height, faces "
    "(as in /v1/predict), tracks (number, state, doubtful, box) and events, or with error."
)


def docs_page(description: dict[str, Any]) -> str:
    """Return a page that shows the description; it needs no script and no other file."""
    parts = [f"<h1>cropfirst {html.escape(description['info']['version'])}</h1>"]
    parts.append(f"<p>{html.escape(description['info']['description'])}</p>")
    parts.append('<p>As a file: <a href="openapi.json">openapi.json</a></p>')
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            parts.append(f"<h2>{method.upper()} {html.escape(path)}</h2>")
            text = f"{operation['summary']} {operation.get('description', '')}"
            parts.append(f"<p>{html.escape(text)}</p><table>")
            for status, response in operation["responses"].items():
                cells = f"<td>{status}</td><td>{html.escape(response['description'])}</td>"
                parts.append(f"<tr>{cells}</tr>")
            parts.append("</table>")
    schema = html.escape(json.dumps(PREDICTION, indent=1))
    parts.append(f"<h2>The answer of /v1/predict</h2><pre>{schema}</pre>")
    style = "body{font:16px system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>cropfirst</title>'
        f"<style>{style}:root{{color-scheme:light dark}}</style>{''.join(parts)}</html>"
    )
