from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.numpy import save_file

from data import DataConfig, TestSet, load_dataset
from models.exported import HEADER
from records import Cell, Winner, write_final_fit
from search_spaces import FinalConfig
from tests.records.results import a_result
from tests.tune.search.simulated import Simulation, experiment
from tune.setup import Prepared, final_fits_of
from tune.trials.final_fits import FinalFitJob, discard_others, final_fits, pending, spent_on

PROBE = {"blocks": "none", "head_lr": 1e-2}
TUNED = {"blocks": "11-7", "lr": 1e-4, "head_lr": (1e-3,)}

DATA = "digest of data"


def each(seeds: int) -> dict[float, int]:
    """So many final fits at every partition."""
    return dict.fromkeys((1.0, 12.5, 100.0), seeds)


def winner(
    partition: float, method: str, config: Mapping[str, Any], probe: dict[str, Any] | None = None
) -> Winner:
    return Winner(
        cell=Cell(partition, method),
        trial=0,
        val_accuracy=0.9,
        samples=90,
        kind="tuned",
        config=dict(config),
        tried=dict(config),
        probe=probe,
    )


WINNERS = {
    w.cell: w
    for w in (
        winner(1, "frozen", PROBE),
        winner(1, "llrd", TUNED, PROBE),
        winner(12.5, "llrd", TUNED),
        winner(100, "frozen", {**PROBE, "head_lr": 1e-3}),
        winner(100, "llrd", TUNED, {**PROBE, "head_lr": 1e-3}),
    )
}


def finish(fit: FinalFitJob, run_dir: Path, **changes: Any) -> None:
    """Leave what a finished fit leaves."""
    (run_dir / "final_fits").mkdir(exist_ok=True)
    write_final_fit(run_dir, a_result(fit.cell, fit.seed, fit.fit_key, **changes))


def export(fit: FinalFitJob, run_dir: Path) -> None:
    """Leave its weights, too."""
    fit.weights_path(run_dir).parent.mkdir(exist_ok=True)
    save_file({}, fit.weights_path(run_dir), {HEADER: "{}"})


def test_every_winner_is_fitted_once_with_every_seed() -> None:
    fits = final_fits(WINNERS, FinalConfig(), each(3), DATA)
    assert len(fits) == 15
    assert {(fit.cell, fit.seed) for fit in fits} == {(g, s) for g in WINNERS for s in range(3)}
    assert all(fit.config == WINNERS[fit.cell].config for fit in fits)


def test_all_winners_are_measured_once_before_any_twice_and_large_partitions_first() -> None:
    fits = final_fits(WINNERS, FinalConfig(), each(2), DATA)
    assert [fit.seed for fit in fits] == [0] * 5 + [1] * 5
    partitions = [fit.cell.partition for fit in fits]
    assert partitions == [100, 100, 12.5, 1, 1] * 2


def test_heads_start_from_the_probe_that_the_winner_started_from() -> None:
    probes = {fit.cell: fit.probe for fit in final_fits(WINNERS, FinalConfig(), each(1), DATA)}
    assert probes[Cell(1, "llrd")] == PROBE
    assert probes[Cell(100, "llrd")] == {**PROBE, "head_lr": 1e-3}
    assert probes[Cell(12.5, "llrd")] is None
    assert probes[Cell(1, "frozen")] is None
    zeros = winner(1, "llrd", {**TUNED, "head_start": "zeros"}, PROBE)
    assert [fit.probe for fit in final_fits({zeros.cell: zeros}, FinalConfig(), each(1), DATA)] == [
        None
    ]


def test_every_seed_of_a_bank_chooses_its_own_head() -> None:
    bank = {**PROBE, "weight_decay": (1e-3, 1e-1)}
    chosen = winner(1, "frozen", {**PROBE, "weight_decay": 1e-1})
    found = dataclasses.replace(chosen, tried=bank)
    fits = final_fits({found.cell: found}, FinalConfig(), each(2), DATA)
    assert [fit.config for fit in fits] == [bank, bank]


def test_no_winners_no_fits() -> None:
    assert final_fits({}, FinalConfig(), each(3), DATA) == []


def test_every_fit_has_a_file_of_its_own(tmp_path: Path) -> None:
    fits = final_fits(WINNERS, FinalConfig(), each(3), DATA)
    assert len({fit.path(tmp_path) for fit in fits}) == len(fits)
    assert {fit.path(tmp_path).parent for fit in fits} == {tmp_path / "final_fits"}
    names = {fit.path(tmp_path).name for fit in fits}
    assert {"12.5-llrd-seed0.json", "100-frozen-seed2.json"} <= names


def fit(**changes: Any) -> FinalFitJob:
    return FinalFitJob(**{"cell": Cell(1, "llrd"), "trial": 3, "seed": 0, "config": TUNED,
                       "probe": PROBE, "rests_on": DATA}
                    | changes)  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {**TUNED, "lr": 1e-3}},
        {"config": {**TUNED, "warmup": 0.1}},
        {"config": {**TUNED, "head_lr": (1e-3, 1e-2)}},
        {"probe": {**PROBE, "head_lr": 1e-3}},
        {"probe": None},
        {"rests_on": "other labels"},
    ],
)
def test_the_key_changes_with_what_a_fit_depends_on(changes: dict[str, Any]) -> None:
    assert fit(**changes).fit_key != fit().fit_key


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"trial": 4},
        {"config": dict(reversed(TUNED.items()))},
        {"config": {**TUNED, "head_lr": [1e-3]}},  # as read back from the journal
        {"config": json.loads(json.dumps(TUNED))},
    ],
)
def test_the_key_does_not_change_with_what_is_in_the_name_or_with_form(
    changes: dict[str, Any],
) -> None:
    assert fit(**changes).fit_key == fit().fit_key


def test_the_key_survives_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    fits = []
    for _ in range(2):  # the second replays the first
        search = Simulation(experiment(), path).run().search
        fits.append([f.fit_key for f in final_fits(search.winners(), FinalConfig(), each(2), DATA)])
    assert fits[0] == fits[1]
    assert len(fits[0]) == 12


def test_without_results_all_is_pending(tmp_path: Path) -> None:
    fits = final_fits(WINNERS, FinalConfig(), each(2), DATA)
    assert pending(fits, tmp_path, export=False) == fits


def test_finished_fits_are_not_pending_and_more_seeds_are(tmp_path: Path) -> None:
    for done in final_fits(WINNERS, FinalConfig(), each(2), DATA):
        finish(done, tmp_path)
    assert pending(final_fits(WINNERS, FinalConfig(), each(2), DATA), tmp_path, export=False) == []
    more = pending(final_fits(WINNERS, FinalConfig(), each(3), DATA), tmp_path, export=False)
    assert [f.seed for f in more] == [2] * 5


def test_a_new_winner_is_fitted_again(tmp_path: Path) -> None:
    for done in final_fits(WINNERS, FinalConfig(), each(2), DATA):
        finish(done, tmp_path)
    cell = Cell(12.5, "llrd")
    better = {**WINNERS, cell: winner(12.5, "llrd", {**TUNED, "lr": 1e-3})}
    again = pending(final_fits(better, FinalConfig(), each(2), DATA), tmp_path, export=False)
    assert {(f.cell, f.seed) for f in again} == {(cell, 0), (cell, 1)}


def test_a_new_probe_leaves_alone_what_started_from_the_old_one(tmp_path: Path) -> None:
    for done in final_fits(WINNERS, FinalConfig(), each(1), DATA):
        finish(done, tmp_path)
    better = {**WINNERS, Cell(1, "frozen"): winner(1, "frozen", {**PROBE, "head_lr": 1e-1})}
    again = {
        fit.cell
        for fit in pending(final_fits(better, FinalConfig(), each(1), DATA), tmp_path, export=False)
    }
    assert again == {Cell(1, "frozen")}


@pytest.mark.parametrize("content", ["", "{", "{}", '{"fit_key": 3}', "\x00"])
def test_a_file_that_is_no_result_is_fitted_again(tmp_path: Path, content: str) -> None:
    one = fit()
    finish(one, tmp_path)
    assert pending([one], tmp_path, export=False) == []
    one.path(tmp_path).write_text(content)
    assert pending([one], tmp_path, export=False) == [one]


def test_the_first_seeds_weights_are_kept_and_every_head() -> None:
    kept = {
        (fit.cell.method, fit.seed)
        for fit in final_fits(WINNERS, FinalConfig(), each(3), DATA)
        if fit.kept
    }
    assert kept == {("llrd", 0), ("frozen", 0), ("frozen", 1), ("frozen", 2)}
    assert all(fit.kept for fit in final_fits(WINNERS, FinalConfig(keep="all"), each(3), DATA))


def test_weights_that_are_not_kept_are_not_waited_for(tmp_path: Path) -> None:
    fits = final_fits(WINNERS, FinalConfig(), each(2), DATA)
    for done in fits:
        finish(done, tmp_path)
        if done.kept:
            export(done, tmp_path)
    assert pending(fits, tmp_path, export=True) == []
    every = final_fits(WINNERS, FinalConfig(keep="all"), each(2), DATA)
    assert {fit.cell.method for fit in pending(every, tmp_path, export=True)} == {"llrd"}


def test_a_result_without_the_weights_to_keep_is_fitted_again(tmp_path: Path) -> None:
    fits = final_fits(WINNERS, FinalConfig(keep="all"), each(2), DATA)
    for done in fits:
        finish(done, tmp_path)
    assert pending(fits, tmp_path, export=True) == fits
    for done in fits[1:]:
        export(done, tmp_path)
    assert pending(fits, tmp_path, export=True) == fits[:1]
    assert pending(fits, tmp_path, export=False) == []
    whole = fits[1].weights_path(tmp_path).read_bytes()
    for content in (b"", whole[:5], whole[:-1]):  # a power cut, a full disk
        fits[1].weights_path(tmp_path).write_bytes(content)
        assert pending(fits, tmp_path, export=True) == fits[:2]


def test_weights_are_discarded_with_their_result_and_kept_with_it(tmp_path: Path) -> None:
    for done in final_fits(WINNERS, FinalConfig(), each(2), DATA):
        finish(done, tmp_path)
        export(done, tmp_path)
    new = winner(1, "llrd", {**TUNED, "lr": 1e-3}, PROBE)
    discard_others(final_fits({**WINNERS, new.cell: new}, FinalConfig(), each(1), DATA), tmp_path)
    results = {path.stem for path in (tmp_path / "final_fits").iterdir()}
    weights = {path.stem for path in (tmp_path / "winners").iterdir()}
    assert results == weights
    assert len(results) == 2 * (len(WINNERS) - 1)


def test_fits_of_other_winners_are_discarded_and_further_seeds_stay(tmp_path: Path) -> None:
    for done in final_fits(WINNERS, FinalConfig(), each(5), DATA):
        finish(done, tmp_path)
    new = winner(1, "llrd", {**TUNED, "lr": 1e-3}, PROBE)
    wanted = final_fits(
        {new.cell: new, Cell(100, "llrd"): WINNERS[Cell(100, "llrd")]},
        FinalConfig(),
        each(3),
        DATA,
    )
    discard_others(wanted, tmp_path)
    left = {path.name for path in (tmp_path / "final_fits").iterdir()}
    assert not any(name.startswith("1-llrd-") for name in left)
    assert len(left) == 5 * (len(WINNERS) - 1)  # of cells that are left out this time, too


# What a final fit rests on


def prepared(extra: Sequence[str] = (), **final: Any) -> Prepared:
    """Scanned digits with further test sets, as far as final fits ask."""
    dataset = load_dataset(DataConfig(source="digits"))
    test = dataset.tests["test"]
    sets = {"test": test} | {
        name: TestSet(test.split.select(range(len(name))), test.source) for name in extra
    }
    spec = experiment().model_copy(update={"final": FinalConfig(**final)})
    nothing: Any = None
    plan: Any = SimpleNamespace(seeds=each(final.get("seeds", 3)))
    dataset = dataclasses.replace(dataset, tests=sets)
    return Prepared(spec, dataset, nothing, plan, Path("cache"), {}, nothing)


def fit_keys(prepared: Prepared) -> list[str]:
    return [fit.fit_key for fit in final_fits_of(prepared, WINNERS)]


@pytest.mark.parametrize(
    "other",
    [
        prepared(["phone"]),
        prepared(["phone", "night"]),
    ],
)
def test_results_rest_on_the_tests(other: Prepared) -> None:
    assert not set(fit_keys(other)) & set(fit_keys(prepared()))


def test_results_do_not_rest_on_the_number_of_seeds_or_the_order_of_tests() -> None:
    assert set(fit_keys(prepared(seeds=1))) == set(fit_keys(prepared(seeds=9)))
    assert set(fit_keys(prepared(export=False))) == set(fit_keys(prepared()))
    orders = (["phone", "night"], ["night", "phone"])
    assert len({tuple(fit_keys(prepared(order))) for order in orders}) == 1


def test_what_is_tried_after_training_concerns_what_trains_the_encoder(tmp_path: Path) -> None:
    for done in final_fits(WINNERS, FinalConfig(), each(1), DATA):
        finish(done, tmp_path)
    plain = FinalConfig(seeds=1, ema=False, wise_ft=())
    again = {
        fit.cell
        for fit in pending(final_fits(WINNERS, plain, each(1), DATA), tmp_path, export=False)
    }
    assert again == {cell for cell in WINNERS if cell.method == "llrd"}


def test_a_method_whose_name_ends_like_a_seed_keeps_its_results(tmp_path: Path) -> None:
    other = fit(cell=Cell(1, "llrd-seed2"))
    finish(other, tmp_path)
    discard_others(final_fits(WINNERS, FinalConfig(), each(1), DATA), tmp_path)
    assert other.path(tmp_path).exists()


def test_seconds_of_earlier_fits_are_summed_by_cell(tmp_path: Path) -> None:
    one, *others, last = final_fits(WINNERS, FinalConfig(), each(2), DATA)
    (same,) = [fit for fit in others if fit.cell == one.cell]
    for fit, seconds in ((one, 2.5), (same, 3.0), (last, 7.0)):
        finish(fit, tmp_path, seconds=seconds)
    assert last.cell != one.cell
    assert spent_on([one, same, last], tmp_path) == {one.cell: 5.5, last.cell: 7.0}
