"""The variables are those of the requirement, and the reference page lists them and every key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpux.chat.configuration import keys
from gpux.chat.configuration.document import Document
from gpux.chat.configuration.resolve import resolve
from gpux.chat.configuration.variables import VARIABLES, names

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
REQUIRED = dict(
    line.split("=", 1)
    for line in (Path(__file__).parents[1] / "requirement_variables.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def test_the_variables_are_those_of_the_requirement() -> None:
    assert len(REQUIRED) == 16
    assert [one.name for one in VARIABLES] == list(REQUIRED)
    assert set(names()) == {*REQUIRED, *(f"GPUX_{name}" for name in REQUIRED)}


@pytest.mark.parametrize("prefix", ["", "GPUX_"])
def test_the_examples_of_the_requirement_are_valid(prefix: str, tmp_path: Path) -> None:
    examples = {name: value.replace("/path/to", str(tmp_path)) for name, value in REQUIRED.items()}
    (tmp_path / "models").mkdir()
    found = resolve(Document("none"), {f"{prefix}{name}": value for name, value in examples.items()}, tmp_path)
    assert found.configuration.models_path == str(tmp_path / "models")
    assert found.configuration.default_provider == "ollama"
    assert [one.source for one in found.warnings] == [f"{prefix}HUGGINGFACE_PRECISION"], "float16 on a CPU"
    variables = set(found.sources.values())
    assert variables == {f"{prefix}{name}" for name in REQUIRED}


def rows(heading: str) -> dict[str, list[str]]:
    """The table below a heading of the page: first code span -> cells."""
    section = PAGE.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    found = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            for name in re.findall(r"`([^`]+)`", cells[0]):
                found[name] = cells
    return found


def test_the_page_lists_every_variable_with_its_key() -> None:
    listed = rows("### Variables")
    assert list(listed) == list(REQUIRED)
    for one in VARIABLES:
        key = ".".join(one.key)
        assert f"`{key}`" in listed[one.name][1], one.name


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        ("### Keys for all providers", "root"),
        ("### Keys of `[providers.NAME]`", "provider"),
        ('### Keys of `[models."PREFIX:NAME"]` and `[model_defaults]`', "model"),
    ],
)
def test_the_page_lists_every_key_of_the_file(heading: str, section: keys.Section) -> None:
    expected = [*keys.keys(section), *(["options"] if section == "model" else [])]
    assert sorted(rows(heading)) == sorted(expected)
