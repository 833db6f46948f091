"""The project's own source makes no call that runs what it reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = [*(path.parent.name for path in ROOT.glob("*/__init__.py")), "cluster"]
SOURCES = sorted(
    [
        *ROOT.glob("*.py"),
        *(f for room in ROOMS if room != "tests" for f in (ROOT / room).rglob("*.py")),
    ]
)
NEVER = {
    "cloudpickle.load",
    "cloudpickle.loads",
    "dill.load",
    "dill.loads",
    "eval",
    "exec",
    "joblib.load",
    "marshal.load",
    "marshal.loads",
    "os.popen",
    "os.system",
    "pd.read_pickle",
    "pickle.Unpickler",
    "pickle.load",
    "pickle.loads",
    "shelve.open",
    "torch.hub.load",
    "yaml.full_load",
    "yaml.load_all",
    "yaml.unsafe_load",
}


def forbidden(source: str) -> Iterator[str]:
    """Every call in `source` that may run code from a file, or hand a text to a shell."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if (
            name in NEVER
            or (name == "yaml.load" and given.get("Loader") != "yaml.SafeLoader")
            or (name.split(".")[-1] == "YAML" and given.get("typ") != "'safe'")
            or (name == "torch.load" and given.get("weights_only") != "True")
            or (name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False")
            or given.get("shell", "False") != "False"
            or given.get("weights_only", "True") != "True"
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_makes_one(path: Path) -> None:
    assert list(forbidden(path.read_text())) == []


@pytest.mark.parametrize(
    "call",
    [
        "eval(text)",
        "pickle.loads(b)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "YAML(typ='unsafe')",
        "ruamel.yaml.YAML()",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "os.system(line)",
        "np.load(file, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_each_is_found(call: str) -> None:
    assert len(list(forbidden(f"def f():\n    return {call}\n"))) == 1


@pytest.mark.parametrize(
    "call",
    [
        "model.eval()",
        "yaml.safe_load(text)",
        "YAML(typ='safe')",
        "subprocess.run(['ls'])",
        "torch.load(file, weights_only=True)",
        "np.load(file, mmap_mode='r')",
    ],
)
def test_others_are_not(call: str) -> None:
    assert list(forbidden(f"def f():\n    return {call}\n")) == []
