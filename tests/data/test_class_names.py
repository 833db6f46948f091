from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.class_names import doubtful_labels, in_words, shared_words, words_of
from errors import InputError


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("apple_pie", "apple pie"),
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("n02085620-Chihuahua", "Chihuahua"),
        ("Alpro-Fresh-Soy-Milk", "Alpro Fresh Soy Milk"),
        ("goldenRetriever", "golden Retriever"),
        ("HerbaceousVegetation", "Herbaceous Vegetation"),
        ("iPhone", "iPhone"),
        ("McIntosh", "McIntosh"),
        ("St._Bernard", "St. Bernard"),
        ("  a__b - c ", "a b c"),
        ("10", "10"),
        ("2.5_inch", "2.5 inch"),
        ("7_up", "7 up"),
        ("v2.Apple", "v2.Apple"),
        ("001.", "001."),
        ("__", "__"),
        ("crème-brûlée", "crème brûlée"),
    ],
)
def test_names_of_folders_become_words(name: str, words: str) -> None:
    assert in_words(name) == words


@given(st.text(alphabet="abAB01n2.-_ é", min_size=1, max_size=20) | st.text(min_size=1))
def test_words_are_never_lost_and_cleaned_once(name: str) -> None:
    words = in_words(name)
    assert words
    assert in_words(words) == words
    if words != name:
        assert words == " ".join(words.split())
        assert not set(words) & set("_-")
        kept = "".join(char for char in name if char not in "_-" and not char.isspace())
        assert kept.endswith(words.replace(" ", ""))


CLASSES = ("apple_pie", "01", "yes", "null")


def file_of(folder: Path, text: str) -> Path:
    (folder / "names.yaml").write_text(text)
    return folder / "names.yaml"


def test_a_list_of_sentences_describes_a_class(tmp_path: Path) -> None:
    file = file_of(tmp_path, "apple_pie:\n  - a round   pie\n  - 'it: has a crust'\nyes: [no]\n")
    words = words_of(CLASSES, file)
    assert words == (("a round pie", "it: has a crust"), "01", ("no",), "null")
    twins = [("b", "a"), "x", ("a", "b"), "y"]
    (line,) = shared_words(CLASSES, twins)
    assert line.startswith("2 classes share their words with another, such as 'apple_pie' and")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yes: []", "line 1: 'yes' has no words"),
        ("yes: [a, '']", "line 1: 'yes' has no words"),
        ("yes:\n- a\n- {b: c}", "line 1: expected one class name and its words, or a list"),
        ("yes:\n- a\n- [b]", "line 1: expected one class name and its words, or a list"),
        ("yes:\n- a\n- " + "x" * 1001, "line 3: 'yes' has a text of more than 1000 characters"),
    ],
)
def test_what_describes_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        words_of(CLASSES, file_of(tmp_path, text))
    assert message in str(error.value)


def test_without_a_file_all_names_are_cleaned() -> None:
    assert words_of(CLASSES, None) == ("apple pie", "01", "yes", "null")


def test_a_file_names_some_classes_as_written(tmp_path: Path) -> None:
    file = file_of(tmp_path, "01: one\nyes: 1_000\n'null': 'a  green  apple'\n")
    assert words_of(CLASSES, file) == ("apple pie", "one", "1_000", "a green apple")


class Unsearched(tuple[str, ...]):
    """Classes that nobody may go through for every name: ImageNet-21k's would take seconds."""

    def __contains__(self, name: object) -> bool:
        raise AssertionError


def test_many_names_take_a_moment(tmp_path: Path) -> None:
    classes = Unsearched(f"n{number:08}" for number in range(8000))
    file = file_of(tmp_path, "".join(f"{name}: word {name}\n" for name in classes))
    assert words_of(classes, file)[-1] == "word n00007999"
    with pytest.raises(InputError, match="is no class") as error:
        words_of(classes, file_of(tmp_path, "? " + "x" * 100_000 + "\n: y"))
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apple_pi: x", "'apple_pi' is no class; did you mean 'apple_pie'? allowed are the 4"),
        ("1: x", "'1' is no class"),
        ("01: a\nyes: b\n01: c", "line 3: '01' stands twice"),
        ("01: {a: b}", "line 1: expected one class name and its words"),
        ("[a]: b", "line 1: expected one class name and its words"),
        ("01:", "line 1: '01' has no words"),
        ("01: ' '", "line 1: '01' has no words"),
        ("- 01", "expected class names and words, such as"),
        ("", "expected class names and words, such as"),
        ("01: 'a", "not YAML"),
        ("a: b\n---\na: b", "not YAML"),
        ("a: *b", "not YAML"),
        ("a: \x07", "not YAML"),
        ("[" * 5000, "more than 40 levels deep"),
    ],
)
def test_ill_formed_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        words_of(CLASSES, file_of(tmp_path, text))
    line = str(error.value)
    assert line.startswith(f"data.class_names: {tmp_path / 'names.yaml'}: ")
    assert message in line
    assert "\n" not in line


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"\xff\xd8\xff\xe0")
    for name in ("none.yaml", "image", ""):
        with pytest.raises(InputError, match="cannot be read"):
            words_of(CLASSES, tmp_path / name)


def test_classes_of_the_same_words_are_a_warning() -> None:
    names = ("apple_pie", "pie", "Apple-pie", "Pie", "tart")
    (warning,) = shared_words(names, words_of(names, None))
    assert warning.startswith("4 classes share their words with another, such as 'apple_pie' and ")
    assert list(shared_words(names[:2], words_of(names[:2], None))) == []


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["0", "0.0", "1"], "2 classes are the same numbers, such as '0' and '0.0'"),
        (["nan", "cat"], "class 'nan' looks like a missing label"),
        (["disc", "disc|thing"], "class 'disc|thing' looks like several labels; an image"),
        (["01", "2", "none", "inf", "a,b"], ""),
    ],
)
def test_names_that_are_no_names_are_doubted(classes: list[str], words: str) -> None:
    assert words in " ".join(doubtful_labels(classes))
    assert bool(words) == bool(doubtful_labels(classes))


def test_names_that_only_a_computer_tells_apart_share_their_words() -> None:
    names = ("caf\u00e9", "cafe\u0301", "tea")  # one letter, and a letter with a mark
    (line,) = shared_words(names, names)
    assert line.startswith("2 classes share their words")
