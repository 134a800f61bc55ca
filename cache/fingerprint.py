"""Names for configs and contents: hashes that any machine and Python version agrees on.

Knows JSON and bytes; knows nothing of what a config means.
"""

from __future__ import annotations

import hashlib
import json

FORMAT = 1
"""Version of all that the cache writes, part of every fingerprint: raise it with any change."""


def canonical_json(obj: object) -> str:
    """One spelling for one value: sorted keys, no spaces, ASCII only.

    Raises:
        TypeError: `obj` holds something that JSON has no form for.
        ValueError: `obj` holds a NaN or an infinity.
    """
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(obj: object) -> str:
    """16 hex characters (blake2b) that name `obj` under the present format."""
    text = canonical_json({"format": FORMAT, "value": obj})
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def content_hash(data: bytes | memoryview) -> str:
    """32 hex characters (blake2b-128) of some bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
