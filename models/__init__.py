"""Towers as layer groups, recipes, solvers and the training loop.

`config`, `recipe` and `solvers` need no torch, which takes seconds to import: a mistake in a search
space is reported at once.
"""
