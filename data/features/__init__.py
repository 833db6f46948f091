"""Features on disk: written once, found by the content of their image."""

from data.features.rows import ShardRows
from data.features.shards import Arrays
from data.features.store import FeatureStore, MissingFeaturesError, cache_root

__all__ = ["Arrays", "FeatureStore", "MissingFeaturesError", "ShardRows", "cache_root"]
