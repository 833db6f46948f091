"""What the table shows, in words that its numbers bear out."""

from __future__ import annotations

import pytest

from tests.report.run_writer import PROBE, TUNED, RunWriter

FLAT = [0.50, 0.50, 0.50]


@pytest.fixture
def compared(writer: RunWriter) -> RunWriter:
    """Winners of frozen and llrd at 1, 10 and 20%, no final fits yet."""
    writer.experiment(["frozen", "llrd"], [1, 10, 20])
    for partition in (1, 10, 20):
        writer.winner(f"{partition}/frozen", 0.5, PROBE)
        writer.winner(f"{partition}/llrd", 0.6, TUNED)
    return writer


def fits(writer: RunWriter, llrd: dict[int, list[float]]) -> list[str]:
    """Write the fits of llrd against a flat baseline, and return the findings."""
    for partition, accuracies in llrd.items():
        writer.final_fits(f"{partition}/frozen", FLAT)
        writer.final_fits(f"{partition}/llrd", accuracies)
    return writer.summary().findings


# s = 0.01 over 3 seeds: 4.303 * 0.01 / sqrt(3) = 2.5 points
GAIN, LOSS, NONE = [0.59, 0.60, 0.61], [0.39, 0.40, 0.41], [0.50, 0.51, 0.52]


def test_one_of_each(compared: RunWriter) -> None:
    assert fits(compared, {1: NONE, 10: GAIN, 20: LOSS})[:3] == [
        "llrd gains 10.0 points over frozen at 10% (7.5 to 12.5)",
        "llrd loses 10.0 points to frozen at 20% (7.5 to 12.5)",
        "No difference between llrd and frozen is shown at 1% (+1.0, -1.5 to 3.5)",
    ]


def test_partitions_of_one_outcome_share_a_sentence(compared: RunWriter) -> None:
    assert fits(compared, {1: NONE, 10: NONE, 20: GAIN})[1] == (
        "No difference between llrd and frozen is shown at 1 and 10%"
    )
    assert fits(compared, {20: NONE})[0] == (
        "No difference between llrd and frozen is shown at any of the 3 partitions"
    )
    assert fits(compared, {1: LOSS, 10: GAIN, 20: GAIN})[:2] == [
        "llrd gains over frozen, in points: 10.0 at 10% (7.5 to 12.5) and 10.0 at 20% "
        "(7.5 to 12.5)",
        "llrd loses 10.0 points to frozen at 1% (7.5 to 12.5)",
    ]


def test_images_can_leave_a_gain_unshown(compared: RunWriter) -> None:
    gain = [0.53, 0.53, 0.53]  # 3 of 100 images: 3.0 ± 1.96 * sqrt(0.03 * 0.97 / 100), 3.3
    assert "llrd gains 3.0 points over frozen at 1% (3.0 to 3.0)" in fits(compared, {1: gain})
    compared.test_images()
    (finding,) = fits(compared, {1: gain})
    assert finding.startswith("No difference between llrd and frozen is shown at 1% (+3.0, -0.")


def test_one_seed_without_images_shows_nothing(compared: RunWriter) -> None:
    compared.final_fits("1/frozen", [0.5])
    compared.final_fits("1/llrd", [0.9])
    assert compared.summary().findings == [
        "llrd and frozen cannot be compared at 1%: it takes two final seeds"
    ]


def test_mean_over_partitions_is_paired_by_seed(compared: RunWriter) -> None:
    # The mean over partitions of seed s: +10 + s - 1 points at both, so 10.0 ± 2.5 again; the
    # gains at 1 and 10% differ by 20 points, which is no noise.
    findings = fits(compared, {1: [0.69, 0.70, 0.71], 10: NONE, 20: [0.49, 0.50, 0.51]})
    assert "llrd gains 7.0 points over frozen on average over 3 partitions (4.5 to 9.5)" in findings


def test_every_other_method_has_an_average_finding(finished: RunWriter) -> None:
    findings = finished.summary().findings
    assert "seed_llrd and frozen cannot be compared at 1%: it takes two final seeds" in findings


def test_falling_baseline_is_found(compared: RunWriter) -> None:
    for partition, accuracy in ((1, 0.5), (10, 0.8), (20, 0.7)):
        accuracies = [accuracy - 0.01, accuracy, accuracy + 0.01]
        compared.final_fits(f"{partition}/frozen", accuracies)
    findings = compared.summary().findings
    assert findings[-1] == "frozen falls by 10.0 points from 10% to 20% (10.0 to 10.0)"
    compared.test_images()  # 10 of 100 images: 10.0 ± 5.9
    finding = compared.summary().findings[-1]
    assert finding.startswith("frozen falls by 10.0 points from 10% to 20% (4.")


def test_baseline_that_wavers_within_its_interval_does_not_fall(compared: RunWriter) -> None:
    compared.experiment(["frozen", "llrd"], [20, 1, 10])
    for partition, accuracies in ((1, [0.2] * 3), (10, NONE), (20, [0.51, 0.51, 0.50])):
        compared.final_fits(f"{partition}/frozen", accuracies)
    assert compared.summary().findings[-1] == ("frozen is nowhere shown to fall as data grows")


# Seeds that move together have an interval of no width, those of NONE and GAIN one of 2.5 points.


def test_from_where_on_more_images_bring_little(compared: RunWriter) -> None:
    findings = fits(compared, {1: FLAT, 10: [0.595, 0.605, 0.615], 20: [0.60, 0.61, 0.62]})
    assert findings[-3:-1] == [
        "From 10% (100 images) on, more images bring llrd at most 1 point (+0.5, 0.5 to 0.5)",
        "From 1% (10 images) on, more images bring frozen at most 1 point (+0.0, 0.00 to 0.00)",
    ]


def test_the_smallest_margin_that_the_interval_meets_is_reported(compared: RunWriter) -> None:
    findings = fits(compared, {1: FLAT, 10: [0.585, 0.595, 0.605], 20: [0.60, 0.61, 0.62]})
    wanted = "From 10% (100 images) on, more images bring llrd at most 2 points (+1.5, 1.5 to 1.5)"
    assert wanted in findings


def test_what_a_run_cannot_see_is_no_need(compared: RunWriter) -> None:
    # 20% is (paired) 6.0 ± 2.5 above 10%, and 8.5 ± 12.4 above 1%: of this, nothing follows.
    findings = fits(compared, {1: [0.49, 0.55, 0.59], 10: [0.57] * 3, 20: [0.62, 0.63, 0.64]})
    wanted = (
        "How many images llrd needs is not shown: from 10% to 20% it may gain 8.5 points (+6.0, "
    )
    assert any(line.startswith(f"{wanted}3.5 to") for line in findings)


def test_an_interval_that_holds_more_than_is_left_to_gain_tells_nothing(
    compared: RunWriter,
) -> None:
    findings = fits(compared, {1: [0.1, 0.9, 0.6], 10: [0.1, 0.9, 0.5], 20: [0.9, 0.5, 0.7]})
    assert not [line for line in findings if "more images" in line and "llrd" in line]
    assert not [line for line in findings if line.startswith("How many images llrd needs")]


def test_a_method_that_gains_to_the_end_may_need_more(compared: RunWriter) -> None:
    findings = fits(compared, {1: FLAT, 10: NONE, 20: [0.60, 0.61, 0.62]})
    assert (
        "llrd still gains 10.0 points from 10% to 20% (10.0 to 10.0): more than 200 images may help"
    ) in findings


def test_a_dip_is_no_gain_to_the_end(compared: RunWriter) -> None:
    findings = fits(compared, {1: GAIN, 10: FLAT, 20: GAIN})
    assert not any("still gains" in line for line in findings)


def test_one_seed_does_not_tell_how_many_images_are_enough(compared: RunWriter) -> None:
    compared.test_images()
    for partition in (1, 10, 20):
        compared.final_fits(f"{partition}/llrd", [0.6])
        compared.final_fits(f"{partition}/frozen", [0.5])
    findings = compared.summary().findings
    assert not any("images" in line for line in findings)
    said = "llrd and frozen cannot be compared at 1, 10 and 20%: it takes two final seeds"
    assert findings[0] == said


def test_nothing_is_claimed_without_results(compared: RunWriter) -> None:
    assert compared.summary().findings == []


def test_markdown_says_what_the_findings_rest_on(compared: RunWriter) -> None:
    fits(compared, {1: GAIN})
    assert "What it shows (intervals over seeds):" in compared.summary().markdown()
    compared.test_images()
    assert "What it shows:" in compared.summary().markdown()


def test_a_search_is_compared_with_its_default_where_a_method_is_that(writer: RunWriter) -> None:
    writer.experiment(["frozen", "llrd", "plain"], [1, 10])
    for partition in (1, 10):
        writer.trial(f"{partition}/llrd", 0, [0.5])  # all have one configuration
        writer.trial(f"{partition}/llrd", 1, [0.6])
        writer.trial(f"{partition}/plain", 0, [0.5])
        for method, config in (("frozen", PROBE), ("llrd", TUNED), ("plain", TUNED)):
            writer.winner(f"{partition}/{method}", 0.6, config)
            writer.final_fits(f"{partition}/{method}", GAIN if method == "llrd" else FLAT)
    where = "on average over 2 partitions (7.5 to 12.5)"
    found = [line for line in writer.summary().findings if "default" in line]
    assert found == [
        f"the search of llrd gains 10.0 points over its default (plain) {where}",
    ]
    for partition in (1, 10):
        writer.trial(f"{partition}/plain", 1, [0.5])  # it searches, too
    assert not [line for line in writer.summary().findings if "default" in line]
