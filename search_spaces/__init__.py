"""What to search, on what: the YAML files, and the code that reads and checks them.

A mistake in a file is reported within a second, so this room loads neither torch nor Ray.
"""

from search_spaces.distributions import Params, Space, check_recipe
from search_spaces.loading import load_experiment
from search_spaces.parsing import parse_space
from search_spaces.schema import (
    Experiment,
    FinalConfig,
    MethodConfig,
    ResourcesConfig,
    SearchConfig,
)

__all__ = [
    "Experiment",
    "FinalConfig",
    "MethodConfig",
    "Params",
    "ResourcesConfig",
    "SearchConfig",
    "Space",
    "check_recipe",
    "load_experiment",
    "parse_space",
]
