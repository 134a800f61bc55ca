"""Fingerprints: the same value has the same name on every machine, another value another."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cropfirst.core.fingerprint import canonical_json, content_hash, fingerprint


def test_canonical_json_ignores_order_and_sequence_type() -> None:
    assert canonical_json({"b": (1, 2), "a": None}) == canonical_json({"a": None, "b": [1, 2]})
    assert canonical_json({"b": [1, 2], "a": "é"}) == '{"a":"\\u00e9","b":[1,2]}'


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": float("inf")}])
def test_canonical_json_refuses_numbers_that_json_has_not(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


def test_canonical_json_refuses_objects() -> None:
    with pytest.raises(TypeError):
        canonical_json({"a": object()})


def test_fingerprint_is_pinned() -> None:
    # A change here makes every cache in the world be built anew: raise FORMAT on purpose instead.
    assert fingerprint({"margin": 0.2, "image_size": 224}) == "74e383891d6d1845"
    assert content_hash(b"photo") == "42bc7252ed9d80afd43e4573d5391af1"


def test_fingerprint_tells_values_apart() -> None:
    values = [{"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": None}, {}, [], None, {"a": [1]}]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_fingerprint_is_the_same_in_another_process() -> None:
    config = {"thresholds": [0.6, 0.7, 0.7], "names": ["ü", "b"], "z": {"x": 1, "y": 2.5}}
    code = f"from cropfirst.core.fingerprint import fingerprint; print(fingerprint({config!r}))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == fingerprint(config)


def test_content_hash_takes_any_bytes() -> None:
    assert content_hash(b"abc") == content_hash(memoryview(b"abc")) != content_hash(b"abd")
    assert len(content_hash(b"")) == 32
