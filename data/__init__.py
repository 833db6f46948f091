"""Images, labels, splits, partitions and feature files, without Ray, torch or models."""

from data.config import DataConfig, FeaturesConfig, SourceConfig
from data.dataset import Dataset, Split, TestSet, check_sources, load_dataset
from data.description import describe
from data.draws import Draws, Listed, each_draw
from data.duplicates import (
    Duplicate,
    SplitContent,
    find_duplicates,
    pairs_of_splits,
    perceptual_hash,
)
from data.features import (
    FeatureStore,
    LostFeaturesError,
    MissingFeaturesError,
    ShardRows,
    cache_root,
)
from data.label_issues import Judged, doubtful_rows, unit_ids
from data.sources import FileSource, ImageSource, UnreadableImageError, reading
from data.splits import derived_seed, fold_ids, partition_rows

__all__ = [
    "DataConfig",
    "Dataset",
    "Draws",
    "Duplicate",
    "FeatureStore",
    "FeaturesConfig",
    "FileSource",
    "ImageSource",
    "Judged",
    "Listed",
    "LostFeaturesError",
    "MissingFeaturesError",
    "ShardRows",
    "SourceConfig",
    "Split",
    "SplitContent",
    "TestSet",
    "UnreadableImageError",
    "cache_root",
    "check_sources",
    "derived_seed",
    "describe",
    "doubtful_rows",
    "each_draw",
    "find_duplicates",
    "fold_ids",
    "load_dataset",
    "pairs_of_splits",
    "partition_rows",
    "perceptual_hash",
    "reading",
    "unit_ids",
]
