"""Names for configs and contents: hashes that any machine and Python version agrees on.

Knows JSON and bytes; knows nothing of what a config means.
"""

from __future__ import annotations

import hashlib
import json

FORMAT = 2
"""Version of the files that the cache is made of: raise it with any change, see migrate.py."""
_NAMES = 1
"""Part of every fingerprint: raise it where an equal config comes to mean other results. What was
made before is then passed over, and runs no longer fit their crops."""


def canonical_json(obj: object) -> str:
    """One spelling for one value: sorted keys, no spaces, ASCII only.

    Raises:
        TypeError: `obj` holds something that JSON has no form for.
        ValueError: `obj` holds a NaN or an infinity.
    """
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(obj: object) -> str:
    """16 hex characters (blake2b) that name `obj`."""
    text = canonical_json({"format": _NAMES, "value": obj})
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def content_hash(data: bytes | memoryview) -> str:
    """32 hex characters (blake2b-128) of some bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
