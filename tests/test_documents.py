"""The documents: their links and paths exist, their length is bounded, their code is right."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from commands import COMMANDS, SEARCH
from data.class_names import words_of
from search_spaces import load_experiment

ROOT = Path(__file__).resolve().parents[1]
# Made from the code, so nobody writes or reads them as a whole: one looks a key or an event up.
GENERATED = {"docs/encoders.md", "docs/events.md", "docs/search_space.md"}
COUNTED = [
    *("README.md", "CHANGELOG.md", "cluster/README.md", "benchmarks/RESULTS.md"),
    *sorted({str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")} - GENERATED),
]
DOCUMENTS = [*COUNTED, *sorted(GENERATED), "models/glyph_clip/README.md"]
WORDS = 10_000
FILES = (".py", ".md", ".yaml", ".yml", ".sh", ".json", ".png", ".txt", ".toml")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def links(document: str) -> Iterator[str]:
    """The relative links of a document, with their anchors."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        if "://" not in target:
            yield target


def rooms() -> set[str]:
    """The folders at the top of the repository; runs lie in `results`."""
    return {path.name for path in ROOT.iterdir() if path.is_dir()} - {"results"}


def paths(document: str) -> Iterator[str]:
    """What looks like a path of the repository, in backticks or in a block of code."""
    for quoted in re.findall(r"`+([^`]+)`+", text_of(document)):
        for word in re.findall(r"[\w./-]+", quoted):
            inside = word.split("/")[0] in rooms() and "/" in word.rstrip("/")
            inside &= "NAME" not in word  # a placeholder
            if inside and (word.endswith((*FILES, "/")) or "." not in word):
                yield word


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for link in links(document):
        name, _, anchor = link.partition("#")
        target = (ROOT / document).parent / name if name else ROOT / document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_exist(document: str) -> None:
    assert [path for path in paths(document) if not (ROOT / path).exists()] == []


def test_paths_are_found() -> None:
    """The check above looks at something."""
    assert "tests/runs/test_honesty.py" in set(paths("docs/architecture.md"))
    assert sum(len(list(paths(document))) for document in DOCUMENTS) > 50


def test_the_documents_are_short() -> None:
    assert sum(len(text_of(document).split()) for document in COUNTED) < WORDS


def blocks(document: str, language: str) -> list[str]:
    """The blocks of code in one language, without their indentation."""
    found = re.findall(
        rf"^( *)```{language}\n(.*?)^ *```$", text_of(document), re.MULTILINE | re.DOTALL
    )
    return [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


@pytest.mark.parametrize(("document", "number"), [("README.md", 5), ("docs/cookbook.md", 11)])
def test_commands_parse(document: str, number: int) -> None:
    commands = 0
    for block in blocks(document, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "run_search.py" in words:
                given = words[words.index("run_search.py") + 1 :]
                named = given[0] in COMMANDS
                command = import_module(f"commands.{given[0] if named else SEARCH}")
                command.parse(given[named:])
                commands += 1
            elif words[0] == "make":
                assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert commands == number


@pytest.mark.parametrize("block", blocks("docs/cookbook.md", "yaml"), ids=range(3))
def test_files_of_the_cookbook_load(block: str, tmp_path: Path) -> None:
    """They are search spaces, or name classes."""
    path = tmp_path / "recipe.yaml"
    path.write_text(block, encoding="utf-8")
    if block.startswith("extends:"):
        assert load_experiment(path).data.source == "folder:photos"
    else:
        assert isinstance(words_of(("daisy", "rose"), path)[1], tuple)


def test_every_paper_that_the_code_cites_is_among_the_sources() -> None:
    rooms = [ROOT / room for room in ("data", "models", "report", "tune")]
    code = "".join(
        path.read_text(encoding="utf-8") for room in rooms for path in room.rglob("*.py")
    )
    cited = set(re.findall(r"arXiv:\d{4}\.\d{5}", code))
    assert len(cited) > 10
    assert cited <= set(re.findall(r"arXiv:\d{4}\.\d{5}", text_of("docs/search.md")))


@pytest.mark.parametrize("snippet", [*blocks("README.md", "python")])
def test_a_snippet_of_the_readme_compiles_and_its_imports_exist(snippet: str) -> None:
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                module = import_module(str(node.module))
                assert hasattr(module, name.name) or find_spec(f"{node.module}.{name.name}")
