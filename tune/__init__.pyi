from .notebook import Results as Results
from .notebook import load_run as load_run
from .notebook import run_search as run_search
