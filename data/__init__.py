"""Images, labels, splits, partitions and feature files. Knows neither Ray nor models."""

from data.config import ColumnNames, DataConfig
from data.dataset import Dataset, Split, load_dataset
from data.feature_store import FeatureStore, MissingFeaturesError, cache_root
from data.sources import ImageSource, UnreadableImageError
from data.splits import partition_indices, stratified_split

__all__ = [
    "ColumnNames",
    "DataConfig",
    "Dataset",
    "FeatureStore",
    "ImageSource",
    "MissingFeaturesError",
    "Split",
    "UnreadableImageError",
    "cache_root",
    "load_dataset",
    "partition_indices",
    "stratified_split",
]
