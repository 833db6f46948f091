"""Notes on the winners: weights kept, settings that mattered, gradients."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from report import write_report
from tests.report.run_writer import TUNED, RunWriter

NORMS = {
    "stem": {"attn": 5.0},
    "block 7": {"ln": 0.08, "attn": 0.3, "mlp": 0.7},
    "block 10": {"ln": 9.0},
    "block 11": {"ln": 0.1, "attn": 0.5, "mlp": 1.0},
    "final": {"ln": 0.2},
}


def notes(writer: RunWriter) -> list[str]:
    return writer.summary().notes


def test_weights_chosen_on_validation(finished: RunWriter) -> None:
    finished.final_fits("1/llrd", [0.75, 0.77], alpha=0.25, ema=True)
    finished.final_fits("10/llrd", [0.93, 0.94, 0.95], alpha=1.0, ema=False)
    report = write_report(finished.run_dir)
    # the third fit at 1% is of an older run and says nothing; mean of 2 x 0.25 and 3 x 1
    assert (
        "For llrd, validation chose interpolation with alpha 0.25 to 1 (mean 0.7) "
        "and averaged weights in 2 of 5 fits" in report.notes
    )
    table = finished.table().set_index(["partition", "method"])
    assert table.loc[(1, "llrd"), ["alpha", "ema"]].tolist() == [0.25, 1.0]
    assert table.loc[(10, "llrd"), ["alpha", "ema"]].tolist() == [1.0, 0.0]
    assert table.loc[(10, "frozen"), ["alpha", "ema"]].isna().all()


def test_nothing_kept_has_no_note(finished: RunWriter) -> None:
    finished.final_fits("10/llrd", [0.93], alpha=None, ema=None)
    assert not any("interpolation" in line or "averaged" in line for line in notes(finished))


def test_importance_of_the_pooled_rows(finished: RunWriter) -> None:
    (finished.run_dir / "importance.csv").write_text(
        "partition,method,parameter,importance,trials\n"
        "10,llrd,blocks,1.0,12\n"
        "all,llrd,blocks,0.2,132\n"
        "all,llrd,lr,0.614,132\n"
        "all,llrd,warmup,0.004,132\n"
        "all,llrd,weight_decay,0.182,132\n"
    )
    lines = [line for line in notes(finished) if line.startswith("PED-ANOVA")]
    assert lines == [
        "PED-ANOVA over 132 trials gives the settings of llrd these importances: "
        "lr 0.61, blocks 0.20, weight_decay 0.18"
    ]


def test_a_parameter_alone_is_not_said_to_have_mattered(finished: RunWriter) -> None:
    """An earlier version wrote such rows, which are 1 by construction."""
    (finished.run_dir / "importance.csv").write_text(
        "partition,method,parameter,importance,trials\n"
        "all,frozen,label_smoothing,1.0,22\n"
        "all,llrd,lr,1.0,132\n"
        "all,llrd,warmup,0.0,132\n"
    )
    assert [line for line in notes(finished) if line.startswith("PED-ANOVA")] == [
        "PED-ANOVA over 132 trials gives the settings of llrd these importances: lr 1.00"
    ]


def gradient_notes(writer: RunWriter) -> list[str]:
    return [line for line in notes(writer) if line.startswith("Gradients")]


def test_gradients_of_the_lowest_over_the_highest_block(finished: RunWriter) -> None:
    finished.final_fits("1/llrd", [0.75, 0.77, 0.76], gradient_norms=NORMS)
    finished.final_fits("10/seed_llrd", [0.7], gradient_norms={"block 11": {"attn": 0.5}})
    assert gradient_notes(finished) == [
        "Gradients of llrd do not vanish: the norm of the lowest trained block over that of the "
        "highest is 0.8 (ln), 0.6 (attn) and 0.7 (mlp)"
    ]
    doubled = {block: {kind: 2 * norm for kind, norm in by.items()} for block, by in NORMS.items()}
    finished.final_fits("1/llrd", [0.75], gradient_norms=doubled)
    write_report(finished.run_dir)
    lines = (finished.run_dir / "gradients.csv").read_text().splitlines()
    assert lines[:3] == [
        "partition,method,layer_group,kind,norm",
        "1,llrd,stem,attn,6.66667",  # mean over seeds of 10, 5 and 5
        "1,llrd,block 7,ln,0.106667",
    ]
    assert len(lines) == 1 + 9 + 1


@pytest.mark.parametrize(
    ("norms", "verdict", "ratios"),
    [
        ({"attn": 0.0099, "mlp": 0.02}, "vanish in attn", "0.01 (attn) and 0.02 (mlp)"),
        ({"attn": 0.0, "mlp": 1e-4}, "vanish in attn and mlp", "0 (attn) and 0.0001 (mlp)"),
        ({"mlp": 30.0}, "do not vanish", "30.0 (mlp)"),
    ],
)
def test_vanishing_gradients(
    finished: RunWriter, norms: Mapping[str, float], verdict: str, ratios: str
) -> None:
    highest = dict.fromkeys(norms, 1.0)
    finished.final_fits("10/llrd", [0.9], gradient_norms={"block 2": norms, "block 11": highest})
    (line,) = gradient_notes(finished)
    assert line.startswith(f"Gradients of llrd {verdict}: ")
    assert line.endswith(f" is {ratios}")


def test_range_is_over_partitions_and_the_worst_decides(finished: RunWriter) -> None:
    for cell, low in (("1/llrd", 0.5), ("10/llrd", 0.001)):
        norms = {"block 7": {"mlp": low}, "block 11": {"mlp": 1.0}}
        finished.final_fits(cell, [0.7], gradient_norms=norms)
    (line,) = gradient_notes(finished)
    assert line.startswith("Gradients of llrd vanish in mlp: ")
    assert line.endswith(" is 0.001 to 0.5 (mlp)")


def test_blocks_without_any_gradient_are_not_judged(finished: RunWriter) -> None:
    still = {"block 7": {"mlp": 0.0}, "block 11": {"mlp": 0.0}}
    finished.final_fits("10/llrd", [0.9], gradient_norms=still)
    assert gradient_notes(finished) == []


def test_layer_norms_alone_are_not_judged(finished: RunWriter) -> None:
    norms = {"block 7": {"ln": 0.001}, "block 11": {"ln": 1.0}}
    finished.final_fits("10/llrd", [0.9], gradient_norms=norms)
    assert gradient_notes(finished) == []


def test_the_luck_of_the_pick_is_what_refits_on_other_draws_lack(writer: RunWriter) -> None:
    writer.experiment(["llrd", "seed_llrd"], [1, 10])
    for cell in ("1/llrd", "10/llrd", "10/seed_llrd"):
        writer.trial(cell, 0, [0.8])
        writer.winner(cell, 0.8, TUNED)
    for cell, refits in (("1/llrd", [0.8, 0.7, 0.74]), ("10/llrd", [0.8, 0.79, 0.79])):
        writer.trial(cell, 1, [0.5])
        writer.final_fits(cell, [0.5] * 3)
        for seed, accuracy in enumerate(refits):
            writer.edit_fit(cell, seed, val_accuracy=accuracy)
    writer.final_fits("10/seed_llrd", [0.5] * 3, val_accuracy=0.6)
    notes = [note for note in writer.summary().notes if "luck" in note]
    assert notes == [
        "The winners of llrd had 4.5 points more validation accuracy in the search than in refits "
        "on other draws: the luck of the pick"
    ]
