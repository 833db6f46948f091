"""Features on disk: written once, found by the content of their image."""

from data.features.digests import Digested, KnownFiles, digest_images, file_stamps
from data.features.local_copies import room_for_copies
from data.features.rows import LostFeaturesError, ShardRows
from data.features.shards import Arrays
from data.features.store import FeatureStore, MissingFeaturesError, cache_root

__all__ = [
    "Arrays",
    "Digested",
    "FeatureStore",
    "KnownFiles",
    "LostFeaturesError",
    "MissingFeaturesError",
    "ShardRows",
    "cache_root",
    "digest_images",
    "file_stamps",
    "room_for_copies",
]
