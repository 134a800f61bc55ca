"""The crop cache: LMDB crops and Parquet rows. It knows nothing of labels or torch."""

from cropfirst.cache.encoding import Encoded, encode_crop
from cropfirst.cache.manifest import CROP_SCHEMA, DETECTION_SCHEMA, Manifest
from cropfirst.cache.open import Cache, CropSet, crop_set_name, crop_settings
from cropfirst.cache.store import CropReader, CropWriter

__all__ = [
    "CROP_SCHEMA",
    "DETECTION_SCHEMA",
    "Cache",
    "CropReader",
    "CropSet",
    "CropWriter",
    "Encoded",
    "Manifest",
    "crop_set_name",
    "crop_settings",
    "encode_crop",
]
