"""A run: its stages, the search, and the processes at work.

    from tune import load_run, run_search

`__init__.pyi` lists these names. Each is imported when it is first asked for (PEP 562): they need
pandas, and a search needs Ray and torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
