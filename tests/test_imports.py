"""What import-linter cannot see: the modules beside the rooms, and what is really loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {path.parent.name for path in ROOT.glob("*/__init__.py")}
MODULES = {path.stem for path in ROOT.glob("*.py")}
HEAVY = {"ray", "torch", "torchvision", "open_clip", "timm", "pandas", "sklearn"}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("errors", set()),
        ("disk", {"errors"}),
        ("docstrings", set()),
        ("files", {"errors"}),
        ("yaml_files", {"errors"}),
        ("terminal", {"errors"}),
        ("text", {"errors"}),
        ("metrics", set()),
        ("partitions", set()),
        ("sections", {"errors"}),
        ("run_search", {"commands", "errors", "terminal"}),
    ],
)
def test_a_module_beside_the_rooms_imports_what_is_below_it(module: str, allowed: set[str]) -> None:
    imported = set()
    for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported & (ROOMS | MODULES | HEAVY) <= allowed


def loaded(code: str, among: set[str] = HEAVY) -> set[str]:
    """Which of some packages, the heavy ones, a fresh process has loaded after running `code`."""
    code = f"import sys\n{code}\nprint(*({among} & {{*sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_reading_an_experiment_loads_nothing_heavy() -> None:
    load = "load_experiment(pathlib.Path('search_spaces/digits.yaml'))"
    assert loaded(f"import pathlib\nfrom search_spaces import load_experiment\n{load}") == set()


def test_the_package_itself_loads_nothing_heavy() -> None:
    assert loaded("import tune") == set()
    assert loaded("from tune import load_run, run_search") & {"ray", "torch"} == set()


@pytest.mark.parametrize("module", ["records.journal", "report", "tune.search.search"])
def test_rooms_without_torch_and_ray_do_not_load_them(module: str) -> None:
    assert loaded(f"import {module}") & {"ray", "torch", "torchvision", "open_clip"} == set()


def test_no_module_of_the_search_loads_torch_or_ray() -> None:
    code = (
        "import importlib, pkgutil, tune.search\n"
        "for module in pkgutil.walk_packages(tune.search.__path__, 'tune.search.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert 'tune.search.search' in sys.modules"
    )
    assert loaded(code) & {"ray", "torch"} == set()


def test_models_and_data_do_not_load_ray() -> None:
    assert "ray" not in loaded("import data, models.fit, models.loading")


@pytest.mark.parametrize(
    ("modules", "late"),
    [
        ("tune.request, tune.run", {"sklearn", "matplotlib"}),  # importances, and the plot
        ("tune.trials.trial_context", {"scipy.optimize"}),  # temperatures
    ],
)
def test_what_ends_a_run_is_not_loaded_at_its_start(modules: str, late: set[str]) -> None:
    assert loaded(f"import {modules}", late) == set()
