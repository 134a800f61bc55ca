"""Hash configs and contents, equally on every machine and Python version.

Knows JSON and bytes; knows nothing of what a config means.
"""

from __future__ import annotations

import hashlib
import json

FORMAT = 2
"""Format version of the cache's files: raise it with any change, see migrate.py."""
_NAMES = 1
"""Part of every fingerprint: raise it if an equal config comes to mean other results. Existing
detections and crops are then not used any more, and runs no longer match their crops."""


def canonical_json(obj: object) -> str:
    """Return the only JSON text of a value: sorted keys, no spaces, ASCII.

    Raises:
        TypeError: `obj` contains something that JSON cannot represent.
        ValueError: `obj` contains a NaN or an infinity.
    """
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(obj: object) -> str:
    """Return the hash of a JSON-able value: 16 hex characters (blake2b)."""
    text = canonical_json({"format": _NAMES, "value": obj})
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def content_hash(data: bytes | memoryview) -> str:
    """Return the hash of bytes: 32 hex characters (blake2b-128)."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
