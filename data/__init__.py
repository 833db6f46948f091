"""Images, labels, splits, partitions and feature files. Knows neither Ray nor models."""

from data.class_names import in_words
from data.config import CLIP_TEMPLATES, ColumnNames, DataConfig, SourceConfig
from data.dataset import Dataset, ExtraTest, Split, load_dataset
from data.duplicates import Duplicate, SplitContent, find_duplicates, perceptual_hash
from data.features.store import FeatureStore, MissingFeaturesError, cache_root
from data.sources.base import ImageSource, UnreadableImageError
from data.splits import partition_indices, stratified_split

__all__ = [
    "CLIP_TEMPLATES",
    "ColumnNames",
    "DataConfig",
    "Dataset",
    "Duplicate",
    "ExtraTest",
    "FeatureStore",
    "ImageSource",
    "MissingFeaturesError",
    "SourceConfig",
    "Split",
    "SplitContent",
    "UnreadableImageError",
    "cache_root",
    "find_duplicates",
    "in_words",
    "load_dataset",
    "partition_indices",
    "perceptual_hash",
    "stratified_split",
]
