"""Images, labels, splits, partitions and feature files, without Ray, torch or models."""

from data.class_names import in_words
from data.config import CLIP_TEMPLATES, ColumnNames, DataConfig, SourceConfig
from data.dataset import Dataset, Split, TestSet, load_dataset
from data.duplicates import Duplicate, SplitContent, find_duplicates, perceptual_hash
from data.features import FeatureStore, MissingFeaturesError, cache_root
from data.sources import FileSource, ImageSource, UnreadableImageError
from data.splits import derived_seed, partition_indices, partition_rows, stratified_split

__all__ = [
    "CLIP_TEMPLATES",
    "ColumnNames",
    "DataConfig",
    "Dataset",
    "Duplicate",
    "FeatureStore",
    "FileSource",
    "ImageSource",
    "MissingFeaturesError",
    "SourceConfig",
    "Split",
    "SplitContent",
    "TestSet",
    "UnreadableImageError",
    "cache_root",
    "derived_seed",
    "find_duplicates",
    "in_words",
    "load_dataset",
    "partition_indices",
    "partition_rows",
    "perceptual_hash",
    "stratified_split",
]
