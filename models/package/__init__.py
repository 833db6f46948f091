"""An adapted model as a folder to take away, which needs nothing of this project.

`write_package` writes one from a winner's weights, as `run_search.py export` does, and
`load_package` reads it back.
"""

from models.package.card import Card
from models.package.folder import load_package, write_package

__all__ = ["Card", "load_package", "write_package"]
