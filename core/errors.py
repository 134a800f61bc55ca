"""The errors that users see.

CropfirstError                 shown as a message, without a stack trace
+-- CacheError                 the cache cannot be read or written
|   +-- CacheMissingError      there is no cache, or no such crop set
|   +-- CacheMismatchError     made by another format, data set or config
|   +-- CacheLockedError       another process is writing
|   +-- CacheCorruptError      a file, row or crop is not as it was written
+-- DataError                  a data set, table, label or correction is invalid
+-- DetectError                stage 1 cannot do what was asked for
+-- TrainError                 stage 2 cannot do what was asked for
|   +-- HubError               the model hub, which has the weights, cannot be reached
+-- BundleError                a bundle cannot be written, read or trusted
+-- DoorError                  a stream or server cannot do what was asked for
+-- PeerError                  another process of a distributed training has failed
+-- DeviceError                a device was asked for that this machine does not have
+-- BackendError               --backend cannot be used, or its processes keep dying
+-- ConfigError                a recipe, a --set or an option is not valid (a ValueError too)
"""

from __future__ import annotations

from collections.abc import Sequence


class CropfirstError(Exception):
    """An error whose message says what was wanted, what was found, and how to fix it."""


class CacheError(CropfirstError):
    """The cache cannot be read or written."""


class CacheMissingError(CacheError):
    """There is no cache, or no such crop set."""


class CacheMismatchError(CacheError):
    """The cache was made by another format version, data set or config."""


class CacheLockedError(CacheError):
    """Another process is writing to this cache."""


class CacheCorruptError(CacheError):
    """A file, row or crop is not as it was written."""


class DataError(CropfirstError):
    """A data set, table, label or correction is invalid."""


class DetectError(CropfirstError):
    """Stage 1 cannot do what was asked for."""


class TrainError(CropfirstError):
    """Stage 2 cannot do what was asked for."""


class BundleError(CropfirstError):
    """A bundle cannot be written, read or trusted."""


class DoorError(CropfirstError):
    """A stream or server cannot do what was asked for."""


class HubError(TrainError):
    """The model hub cannot be reached.

    Attributes:
        reason: what was wanted and what came.
        ways_out: how to go on without a hub.
    """

    def __init__(self, reason: str, ways_out: str = "") -> None:
        # With one argument, as it is made again from its message in another process.
        super().__init__(f"{reason}: {ways_out}" if ways_out else reason)
        self.reason, self.ways_out = reason, ways_out


class PeerError(CropfirstError):
    """Another process of a distributed training has failed; its own error says why."""


class DeviceError(CropfirstError):
    """A device was asked for that this machine does not have."""


class BackendError(CropfirstError):
    """A backend cannot be used, or its processes keep dying."""


class ConfigError(CropfirstError, ValueError):
    """A recipe, a `--set` or a value in them is not valid.

    Attributes:
        unknown: dotted settings that are not known.
    """

    def __init__(self, message: str, unknown: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.unknown = tuple(unknown)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, which may be empty."""
    return f"{error}\n".splitlines()[0]
