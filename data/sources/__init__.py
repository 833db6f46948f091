"""The kinds of sources that images come from, by the word before the colon of `data.source`.

To add one, write a file here with a subclass of `SourceKind` and name it in `SOURCES`.
"""

from data.sources.base import (
    FileSource,
    ImageSource,
    Listing,
    SourceKind,
    UnreadableImageError,
    reading,
)
from data.sources.csv_table import CsvTable
from data.sources.digits import Digits
from data.sources.folder import Folder
from data.sources.hugging_face import HuggingFace
from data.sources.torchvision_sets import TorchvisionSets
from data.sources.webdataset import WebDataset

SOURCES: dict[str, SourceKind] = {
    "digits": Digits(),
    "folder": Folder(),
    "csv": CsvTable(),
    "torchvision": TorchvisionSets(),
    "hf": HuggingFace(),
    "webdataset": WebDataset(),
}

__all__ = [
    "SOURCES",
    "FileSource",
    "ImageSource",
    "Listing",
    "SourceKind",
    "UnreadableImageError",
    "reading",
]
