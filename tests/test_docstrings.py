"""What is read from docstrings."""

from __future__ import annotations

from docstrings import attributes, summary


class Parent:
    """A parent.

    Attributes:
        first: the first, with a colon: and
            a second line.
        left, right: both sides.
    """


class Child(Parent):
    """A child of it.

    Attributes:
        first: another.
    """


def test_attributes_are_those_of_parents_and_of_the_class_itself() -> None:
    both = {"left": "both sides.", "right": "both sides."}
    assert attributes(Parent) == {"first": "the first, with a colon: and a second line."} | both
    assert attributes(Child) == {"first": "another."} | both
    assert attributes(int) == {}


def test_the_summary_is_the_first_line() -> None:
    assert summary(Child) == "A child of it."
    assert summary(type("Bare", (), {})) == ""
