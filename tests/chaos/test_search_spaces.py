"""Search spaces as users might come to write them: run as meant, or refused in one line."""

from __future__ import annotations

import copy
import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import run_search
import tune.run
import tune.setup
from models.config import LOCAL_DIR
from models.loading import load_pretrained
from search_spaces import Experiment
from tests.chaos import times
from tests.runs.helpers import ROOT
from tune.setup import prepare
from yaml_files import read_yaml

FILES = sorted((ROOT / "search_spaces").glob("*.yaml"))
SPACES = [read_yaml(path.read_text(), path.name) for path in FILES]
TEXTS = [path.read_text() for path in FILES]
Place = tuple[Any, ...]
# What is found wrong beyond the file: in the data, the encoder, the cache.
PREPARED = r"(data|source|root|model|features|methods|columns|search|blocks|kinds)\b[\w.]*: "

NUMBERS = (
    *(0, -1, 1, 2**31, 10**400, -(10**30), 0.0, -0.0, 1e-320, 1e308),
    *(math.nan, math.inf, -math.inf),
)
WORDS = (
    *("", " ", "none", "all", "11-7", "7-11", "11-", "99", "-1", "1e-3", "probe", "digits"),
    *("folder:", "csv:", "torchvision:Nothing", "local-dir:/none", "{}", "{0.__class__}"),
    *("\u202e\u0000", "ẞ\u0301\U0001f9a4", "\ud800", "a\nb", "[bold]", "../.."),
)
BOXES = (
    *([], {}, [[]], [[[[1]]]], {"a": 1, 2: 3}, {None: None}),
    *({"choice": []}, {"choice": [[1, {}]]}, {"bank": [1, 1]}, {"randint": [0, 0]}),
    *({"uniform": [1, 0]}, {"loguniform": [0, 1]}, {"quniform": [0, 1, 0]}),
    *({"uniform": [math.nan, 1]}, {"uniform": [0, 10**400]}),
)
odd = st.one_of(
    st.sampled_from([None, True, False, *NUMBERS, *WORDS, *BOXES]).map(copy.deepcopy),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.dates(),
    st.recursive(st.none() | st.integers(), lambda inner: st.lists(inner, max_size=3)),
)


def places(tree: Any, at: Place = ()) -> Iterator[Place]:
    """Where something stands in a tree, the tree itself left out."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs if isinstance(tree, dict | list) else ():
        yield (*at, key)
        yield from places(value, (*at, key)) if isinstance(value, dict | list) else ()


def parent_of(tree: Any, place: Place) -> Any:
    for key in place[:-1]:
        tree = tree[key]
    return tree


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """One of our own search spaces after a few accidents."""
    tree = copy.deepcopy(draw(st.sampled_from(SPACES)))
    for _ in range(draw(st.integers(1, 4))):
        every = list(places(tree))
        if not every:
            break
        place = draw(st.sampled_from(every))
        holder, key = parent_of(tree, place), place[-1]
        accident = draw(st.sampled_from(["lost", "odd", "moved", "nested", "misspelt", "shared"]))
        match accident:
            case "lost":
                del holder[key]
            case "odd":
                holder[key] = draw(odd)
            case "moved":
                other = draw(st.sampled_from(every))
                if other != place:
                    holder[key] = copy.deepcopy(parent_of(tree, other)[other[-1]])
            case "nested":
                holder[key] = draw(st.sampled_from([[holder[key]], {"choice": [holder[key]]}]))
            case "misspelt" if isinstance(holder, dict):
                holder[draw(st.text(max_size=3)) + str(key)[1:]] = holder.pop(key)
            case "shared" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["lr", "x", "space", "name", 7]))] = holder[key]
    every = list(places(tree))
    if every and draw(st.booleans()):  # YAML then writes an anchor: the tree may hold itself
        place, other = draw(st.sampled_from(every)), draw(st.sampled_from([(), *every]))
        value = parent_of(tree, other)[other[-1]] if other else tree
        parent_of(tree, place)[place[-1]] = value
    return tree


@st.composite
def retyped(draw: st.DrawFn) -> str:
    """The text of one of them with lines lost, doubled, indented or overwritten."""
    lines = draw(st.sampled_from(TEXTS)).split("\n")
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.integers(0, len(lines) - 1))
        match draw(
            st.sampled_from(["lost", "doubled", "indented", "cut", "overwritten", "swapped"])
        ):
            case "lost":
                del lines[n]
            case "doubled":
                lines.insert(n, lines[n])
            case "indented":
                lines[n] = draw(st.sampled_from([" ", "\t", "    "])) + lines[n]
            case "cut":
                lines[n] = lines[n][: draw(st.integers(0, len(lines[n])))]
            case "overwritten":
                anchors = ["&a", "*a", "<<: *a", "- x", "? [a]", "!!python/name:os.system", "---"]
                lines[n] += draw(st.sampled_from(anchors) | st.text(max_size=8))
            case "swapped":
                lines[n - 1], lines[n] = lines[n], lines[n - 1]
        if not lines:
            break
    return "\n".join(lines)


many = settings(
    max_examples=times(100, 1000), deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module", autouse=True)
def cheap_part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`run_search.main` as far as it goes without Ray, downloads, or a second load of weights."""
    load = functools.cache(lambda config: load_pretrained(config))

    def dry_run(experiment: Experiment, options: Any, console: Any) -> None:
        sources = [experiment.data, *experiment.data.extra_tests.values()]
        downloads = any(source.source.startswith("torchvision:") for source in sources)
        if experiment.model.name.startswith(LOCAL_DIR) and not downloads:
            prepare(experiment)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        patch.setattr(tune.run, "dry_run", dry_run)
        patch.setattr(tune.setup, "load_pretrained", lambda config, *_: load(config))
        yield


def check(folder: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, or 2 with one line that names the file; anything else fails."""
    path = folder / "space.yaml"
    path.write_bytes(content)
    capsys.readouterr()
    code = run_search.main([str(path), "--dry-run"])
    said = capsys.readouterr().err
    if code == 0:
        assert said == ""
        return
    assert code == 2
    (line,) = said.split("\n")[:-1]
    assert re.match(rf"error: ({re.escape(str(path))}: |{PREPARED})", line), line
    assert len(line) < 1000
    assert "Traceback" not in line


@many
@given(tree=mutated())
@pytest.mark.filterwarnings("ignore:The distribution is specified:UserWarning")
def test_a_search_space_after_accidents_is_run_or_refused(
    tree: Any, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    text = yaml.dump(tree, allow_unicode=True)
    check(tmp_path_factory.getbasetemp(), text.encode(errors="surrogatepass"), capsys)


@many
@given(text=retyped())
@pytest.mark.filterwarnings("ignore:The distribution is specified:UserWarning")
def test_a_search_space_badly_typed_is_run_or_refused(
    text: str, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    check(tmp_path_factory.getbasetemp(), text.encode(errors="surrogatepass"), capsys)
