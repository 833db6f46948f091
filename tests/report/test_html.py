"""The page of a run: what it says, that no text is markup, how large it is, how it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import one_line
from records import LABEL_ISSUES, Footnote, LabelIssue, SetScore, picture_path
from report import write_report
from report.html.comparison import render_comparison
from report.html.page import render_run
from report.pictures import wanted
from report.run import read_run
from report.summary import summarise
from run_search import main
from tests.report.pages import CHROMIUM, Page, shown
from tests.report.run_writer import PROBE, TUNED, RunWriter
from tests.test_text import HOSTILE

NAMES = ("cat", "<script>alert(1)</script>", "**b** [x](http://y) \x1b[2J")


def page_of(writer: RunWriter) -> str:
    run = read_run(writer.run_dir)
    return render_run(run, summarise(run))


@pytest.fixture
def labelled(finished: RunWriter) -> RunWriter:
    """The finished run with labels, confidences, label issues and duplicates."""
    rows = [f'test,{i}.png,1,"{NAMES[1]}"' for i in range(100)]
    header = "set,key,label,class_name"
    (finished.run_dir / "test_images.csv").write_text("\n".join([header, *rows, ""]))
    for seed, right in enumerate((93, 94, 95)):
        score = SetScore(
            right / 100,
            [1] * right + [0] * (100 - right),
            [0.99] * right + [0.9] * (100 - right),
            [0.95] * right + [0.6] * (100 - right),
        )
        finished.edit_fit("10/llrd", seed, tests={"test": score}, temperature=1.5)
    issues = [LabelIssue("test", f"{i}.png", NAMES[1], NAMES[2], 0.01, 0.9) for i in range(150)]
    LABEL_ISSUES.write(finished.run_dir, issues)
    (finished.run_dir / "duplicates.csv").write_text(
        "kind,split_a,key_a,split_b,key_b,class_a,class_b\n"
        + "".join(f"near,train,t{i}.png,test,{i}.png,<b>,cat\n" for i in range(150))
    )
    return finished


def test_sections_are_those_that_the_run_has_something_for(labelled: RunWriter) -> None:
    text = Page(page_of(labelled)).text
    for heading in (
        labelled.summary().answer.split(". ")[0],
        "Where it errs",
        "Labels to check: 150",
        "Duplicates: 150",
        "Can its confidence be believed?",
        "Which classes to label next",
        "What was searched, and what mattered",
        "Cost, and how to make it again",
        "pack: 2 images are twins",
    ):
        assert heading in text
    assert "Fewer than four say nothing about more images" in text


def test_a_run_that_has_only_begun_has_a_page(writer: RunWriter) -> None:
    writer.experiment(["frozen", "llrd"], [1, 10])
    text = Page(page_of(writer)).text
    assert "There is no answer yet" in text
    assert "There is no result for 1/frozen" in text
    assert "Where it errs" not in text


def test_a_run_without_labels_has_no_errors_by_class(finished: RunWriter) -> None:
    text = Page(page_of(finished)).text
    assert "Accuracy by number of images" in text
    assert "Where it errs" not in text


def test_no_text_becomes_markup(labelled: RunWriter) -> None:
    clean = Page(page_of(labelled))
    for text in HOSTILE[:-1]:
        labelled.event(Footnote(text))
    labelled.run_dir.joinpath("skipped_images.csv").write_text(
        "split,key,reason\ntrain,<img src=http://x>,<script>alert(2)</script>\n"
    )
    text = page_of(labelled)
    page = Page(text)
    for tag in ("script", "img", "a", "b", "iframe", "h2"):
        assert page.count(tag) == clean.count(tag)
    assert "\x1b" not in text
    assert "\u202e" not in text
    for written in (NAMES[1], one_line(NAMES[2]), "<script>alert(2)</script>"):
        assert written in page.text
    for line in HOSTILE[:-1]:
        assert " ".join(one_line(line).split()) in page.text


def test_the_page_asks_nobody_for_anything(labelled: RunWriter) -> None:
    for _, attributes in Page(page_of(labelled)).tags:
        for name in ("src", "href", "srcset", "action"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:"))
    assert "default-src 'none'" in page_of(labelled)


def test_pictures_are_in_the_page_within_its_limit(labelled: RunWriter) -> None:
    images = wanted(read_run(labelled.run_dir))
    assert len({*images}) == len(images) <= 200
    assert {split for split, _ in images} == {"train", "test"}
    for split, key in images:
        path = picture_path(labelled.run_dir, split, key)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"RIFF" * 5000)
    text = page_of(labelled)
    assert text.count("data:image/webp") > 20
    assert len(text.encode()) < 2_000_000


def test_a_page_of_55_cells_is_small(writer: RunWriter) -> None:
    methods = [f"method{i}" for i in range(5)]
    shares = [1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 100]
    writer.experiment(methods, shares)
    for place, share in enumerate(shares):
        for method in methods:
            cell, accuracy = f"{share}/{method}", 0.5 + 0.04 * place
            for number in range(2):
                writer.trial(cell, number, [accuracy], status=None)
            writer.winner(cell, accuracy, TUNED if method != "method0" else PROBE)
            right = round(1000 * accuracy)
            predictions = [i % 100 if i < right else 3 * i % 100 + 1 for i in range(1000)]
            wrong = sum(p != i % 100 for i, p in enumerate(predictions))
            scores = {"test": SetScore(1 - wrong / 1000, predictions)}
            writer.final_fits(cell, [accuracy] * 2, tests=scores)
    rows = [f"test,{i}.png,{i % 100}" for i in range(1000)]
    writer.run_dir.joinpath("test_images.csv").write_text("\n".join(["set,key,label", *rows, ""]))
    text = page_of(writer)
    assert len(text.encode()) < 500_000
    assert "power law" in text
    assert "Most often confused" in text


def test_several_runs_are_compared_on_one_page(finished: RunWriter, tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    folder = str(finished.run_dir)
    assert main(["report", folder, folder, "--out", str(out)]) == 1  # 10/seed_llrd has no result
    text = Page(out.read_text(encoding="utf-8")).text
    assert "Comparison of 2 runs" in text
    assert "digits (1)" in text
    assert "digits (2)" in text
    assert (finished.run_dir / "report.html").exists()


def test_where_to_compare_is_for_several_runs_alone(finished: RunWriter) -> None:
    assert main(["report", str(finished.run_dir), "--out", "x.html"]) == 2
    assert main(["report", str(finished.run_dir), str(finished.run_dir / "none")]) == 2
    assert not (finished.run_dir / "report.html").exists()


def test_runs_without_results_are_compared(writer: RunWriter) -> None:
    writer.experiment(["frozen"], [1])
    run = read_run(writer.run_dir)
    assert "There is no answer yet" in Page(render_comparison([run, run])).text


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_and_sorts_it(labelled: RunWriter, tmp_path: Path) -> None:
    script = """[
        d.documentElement.scrollWidth,
        (d.querySelectorAll("#accuracies th")[1].click(),
         d.querySelector("#accuracies tbody td").textContent),
        (d.querySelectorAll("#accuracies th")[1].click(),
         d.querySelector("#accuracies tbody td").textContent),
        (d.getElementById("theme").click(), d.documentElement.dataset.theme),
        d.querySelectorAll("svg").length,
    ].join(" ")"""
    read, console = shown(page_of(labelled), tmp_path, script)
    width, largest, smallest, theme, charts = read.split()
    assert int(width) <= 390
    assert (largest, smallest) == ("10%", "1%")
    assert theme in ("light", "dark")
    assert int(charts) >= 5
    assert console == []


def test_the_page_is_beside_the_table(finished: RunWriter) -> None:
    summary = write_report(finished.run_dir)
    assert summary.page == finished.run_dir / "report.html"
    assert summary.answer in Page(summary.page.read_text(encoding="utf-8")).text
