"""From a source, as configured, to the listing of its images."""

from __future__ import annotations

from data.config import SourceConfig
from data.sources.base import Listing
from data.sources.csv_table import list_csv
from data.sources.digits import list_digits
from data.sources.folder import list_folder
from errors import InputError


def list_images(config: SourceConfig, section: str) -> Listing:
    """Every image of `config.source`; reads none.

    Args:
        config: the source.
        section: the experiment's key that holds it, such as `data`; errors start with it.

    Raises:
        InputError: the source is missing or ill-formed.
    """
    try:
        return _list(config)
    except InputError as error:  # they start with a key of SourceConfig
        raise InputError(f"{section}.{error}") from error


def _list(config: SourceConfig) -> Listing:
    match config.kind:
        case "digits":
            return list_digits()
        case "folder":
            return list_folder(config.place)
        case "csv":
            return list_csv(config.place, config.root, config.columns)
    from data.sources.torchvision_sets import list_torchvision  # seconds to import

    return list_torchvision(config.place, config.root)
