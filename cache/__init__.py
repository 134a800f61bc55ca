"""The crop cache: LMDB crops and Parquet rows. Knows nothing of labels or torch."""

from cropfirst.cache.errors import (
    BackendError,
    CacheCorruptError,
    CacheError,
    CacheLockedError,
    CacheMismatchError,
    CacheMissingError,
    CropfirstError,
    DataError,
    DetectError,
    DeviceError,
    PeerError,
    TrainError,
)
from cropfirst.cache.files import write_atomic
from cropfirst.cache.fingerprint import FORMAT, canonical_json, content_hash, fingerprint
from cropfirst.cache.manifest import CROP_SCHEMA, DETECTION_SCHEMA, Manifest
from cropfirst.cache.open import Cache, CropSet, crop_set_name
from cropfirst.cache.store import CropReader, CropWriter, Encoded, encode_crop

__all__ = [
    "CROP_SCHEMA",
    "DETECTION_SCHEMA",
    "FORMAT",
    "BackendError",
    "Cache",
    "CacheCorruptError",
    "CacheError",
    "CacheLockedError",
    "CacheMismatchError",
    "CacheMissingError",
    "CropReader",
    "CropSet",
    "CropWriter",
    "CropfirstError",
    "DataError",
    "DetectError",
    "DeviceError",
    "Encoded",
    "Manifest",
    "PeerError",
    "TrainError",
    "canonical_json",
    "content_hash",
    "crop_set_name",
    "encode_crop",
    "fingerprint",
    "write_atomic",
]
