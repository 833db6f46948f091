"""Towers as layer groups, recipes, solvers and the training loop.

    from models import Fit, ModelConfig, Recipe

`__init__.pyi` lists the names. A name is imported when it is first asked for (PEP 562).
Recipes and configurations need no torch, which takes seconds to import: a mistake in a search
space is reported at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
