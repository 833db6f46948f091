"""Search spaces that share what they have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import load_experiment
from search_spaces.extending import MOST_FILES, SpaceFile, merged
from tests.search_spaces.written import refused

BASE = """
name: base
data: {source: digits, partitions: [1, 10, 100]}
search: {trials: 5, asha: {rungs: 2}}
methods:
  frozen: {space: {blocks: none}}
  gda: {space: {blocks: none, head_start: zero_shot, solver: gda}}
  llrd:
    trials: 3
    space: {blocks: "11", lr: {loguniform: [1e-5, 1e-2]}, warmup: {uniform: [0.0, 0.2]}}
    default: {lr: 1e-3, warmup: 0.1}
"""


def write(folder: Path, **files: str) -> Path:
    """Write files; return the path of the first."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def test_keys_are_merged_and_values_and_lists_and_parameters_replaced(tmp_path: Path) -> None:
    own = """
extends: base.yaml
data: {partitions: [50]}
search: {asha: {reduction_factor: 4}}
methods:
  gda: null
  llrd: {space: {lr: {uniform: [0.1, 0.2]}}, default: {lr: 0.15}}
  last: {space: {blocks: "11"}}
"""
    experiment = load_experiment(write(tmp_path, own=own, base=BASE))
    assert experiment.name == "own"
    assert (experiment.data.source, experiment.data.partitions) == ("digits", (50,))
    assert experiment.search.trials == 5
    assert experiment.resolved()["search"]["asha"]["reduction_factor"] == 4
    assert experiment.resolved()["search"]["asha"]["rungs"] == 2
    assert list(experiment.methods) == ["frozen", "llrd", "last"]
    llrd = experiment.methods["llrd"]
    assert llrd.trials == 3
    assert llrd.space["lr"] == {"uniform": [0.1, 0.2]}
    assert llrd.default == {"lr": 0.15, "warmup": 0.1}


def test_a_parameter_that_is_fixed_needs_no_default(tmp_path: Path) -> None:
    own = "extends: base.yaml\nmethods: {llrd: {space: {lr: 1e-4}}}"
    llrd = load_experiment(write(tmp_path, own=own, base=BASE)).methods["llrd"]
    assert llrd.default == {"warmup": 0.1}


def test_a_ready_space_is_extended_by_its_name_from_anywhere(tmp_path: Path) -> None:
    path = write(tmp_path, mine="extends: vit\ndata: {source: digits}")
    assert "llrd" in load_experiment(path).methods


@pytest.mark.parametrize(
    ("own", "base", "file", "message"),
    [
        ("extends: own.yaml", BASE, "own", "extends: {folder}/own.yaml extends this file"),
        ("extends: base.yaml", "extends: own.yaml", "base", "extends: {folder}/own.yaml extends"),
        ("extends: no.yaml", BASE, "own", "extends: no file 'no.yaml'; allowed: a path that"),
        ("extends: vitt", BASE, "own", "extends: no file 'vitt'; did you mean 'vit'? allowed"),
        ("extends: [vit]", BASE, "own", "extends: ['vit'] is no file. Allowed: one such as vit"),
        ("extends: base.yaml", "a: [", "base", "line 1, column 5: not YAML"),
        ("extends: base.yaml", f"seeed: 1\n{BASE}", "base", "seeed: unknown key; did you mean"),
        ("extends: base.yaml\nseeed: 1", BASE, "own", "seeed: unknown key; did you mean"),
        (
            "extends: base.yaml\nmethods: {llrd: {space: {kinds: lm}}}",
            BASE,
            "own",
            "methods.llrd: kinds: unknown kind 'lm'",
        ),
        (
            "extends: base.yaml\nmethods: {llrd: {space: {kinds: ln}}}",
            BASE.replace("1e-5, 1e-2", "1e-2, 1e-5"),
            "base",
            "methods.llrd: lr: loguniform: [0.01, 1e-05]: low must be below high",
        ),
        (
            "extends: base.yaml\nmethods: {gdaa: null}",
            BASE,
            "own",
            "methods.gdaa: null has no keys",
        ),
    ],
)
def test_a_mistake_names_the_file_in_which_it_stands(
    tmp_path: Path, own: str, base: str, file: str, message: str
) -> None:
    line = refused(write(tmp_path, own=own, base=base))
    assert line.startswith(f"{tmp_path}/{file}.yaml: {message.format(folder=tmp_path)}")


def test_files_upon_one_another_have_a_limit(tmp_path: Path) -> None:
    chain = {f"f{n}": f"extends: f{n + 1}.yaml" for n in range(MOST_FILES)}
    path = write(tmp_path, **chain, **{f"f{MOST_FILES}": BASE})
    assert f"extends: more than {MOST_FILES} files" in refused(path)
    assert load_experiment(tmp_path / "f1.yaml").search.trials == 5


trees = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


@given(mappings, mappings)
def test_what_a_file_says_itself_holds(own: dict[str, object], base: dict[str, object]) -> None:
    before = repr((own, base))
    tree = merged([SpaceFile(Path("own"), own), SpaceFile(Path("base"), base)])
    assert merged([SpaceFile(Path("own"), own), SpaceFile(Path("tree"), tree)]) == tree
    assert set(tree) == {*own, *base}
    assert repr((own, base)) == before


def test_the_experiment_of_a_run_is_a_search_space_again(file: Path, tmp_path: Path) -> None:
    """`experiment.yaml` also says what the run rests on."""
    resolved = load_experiment(file).resolved()
    recorded = resolved | {"identity": {"run": "1"}, "earlier_methods": {"old": {}}}
    again = tmp_path / "experiment.yaml"
    again.write_text(yaml.safe_dump(recorded))
    assert load_experiment(again).resolved() == resolved
