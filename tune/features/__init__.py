"""The feature stage: what it will take, which boundaries it caches, and who encodes."""

from tune.features.plan import Plan, make_plan, selections_of
from tune.features.stage import Features, FeatureStage, Skipped
from tune.features.worker import EncodeJob, EncoderWorker, ImageRef

__all__ = [
    "EncodeJob",
    "EncoderWorker",
    "FeatureStage",
    "Features",
    "ImageRef",
    "Plan",
    "Skipped",
    "make_plan",
    "selections_of",
]
