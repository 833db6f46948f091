"""The page `report.html`: one file without network, made from a run's files alone.

Each section is a module with a function that turns a run into what the template shows, or into
None where the run has nothing for it. `page.py` puts them together.
"""
