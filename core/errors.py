"""The errors that users meet.

CropfirstError                 the message is shown as it is, without a stack trace
+-- CacheError
|   +-- CacheMissingError      there is no cache, or no such crop set, where one was wanted
|   +-- CacheMismatchError     made by another format, data set or config
|   +-- CacheLockedError       another process is writing
|   +-- CacheCorruptError      a row or a crop fails its own hash
+-- DataError                  a data set, table, label or correction is not what it should be
+-- DetectError                stage 1 was asked for something impossible
+-- TrainError                 stage 2 was asked for something impossible
+-- PeerError                  another of the processes that train together has failed
+-- DeviceError                a device was asked for that this machine has not
+-- BackendError               --backend cannot be used, or its processes keep dying
+-- ConfigError                a recipe, a --set or an option is not valid (a ValueError too)
"""


class CropfirstError(Exception):
    """What was wanted, what came, and how to mend it."""


class CacheError(CropfirstError):
    """The crop cache cannot be used as asked."""


class CacheMissingError(CacheError):
    """No cache or crop set where one was wanted."""


class CacheMismatchError(CacheError):
    """The cache was made by another format version, data set or config."""


class CacheLockedError(CacheError):
    """Another process is writing to this cache."""


class CacheCorruptError(CacheError):
    """A row or a crop fails its own hash."""


class DataError(CropfirstError):
    """A data set, table, label or correction is not what it should be."""


class DetectError(CropfirstError):
    """Stage 1 was asked for something impossible."""


class TrainError(CropfirstError):
    """Stage 2 was asked for something impossible."""


class PeerError(CropfirstError):
    """Another of the processes that train one model together has failed."""


class DeviceError(CropfirstError):
    """A device was asked for that this machine has not."""


class BackendError(CropfirstError):
    """--backend cannot be used, or its processes keep dying."""


class ConfigError(CropfirstError, ValueError):
    """A recipe, a `--set` or a value in them is not valid."""


def first_line(error: BaseException) -> str:
    """What an error says, without what other libraries put below it; may be empty."""
    return f"{error}\n".splitlines()[0]
