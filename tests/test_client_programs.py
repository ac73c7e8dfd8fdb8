"""The programs of the pages that `./dev clients` runs."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.clients import CLIENTS, PAGES, WRITTEN, blocks

#: Their checks are about HTTP itself, or the page shows a newer client of the same library.
WITHOUT_A_PROGRAM = {"httpx2", "langchain-huggingface"}


def test_every_program_names_a_client_and_every_client_has_a_program() -> None:
    clients = {path.parent.name for path in CLIENTS.glob("*/check.*")}
    named = {block.client for block in blocks() if block.place.startswith("clients.md")}
    assert {block.client for block in blocks()} <= clients
    assert clients - named == WITHOUT_A_PROGRAM
    assert {block.language for block in blocks()} == {"python", "javascript", "console"}


def test_the_table_of_clients_has_a_row_for_each_client() -> None:
    text = (PAGES.parent / "reference" / "http" / "index.md").read_text(encoding="utf-8")
    table = text.partition("| client | release |")[2].partition("\n\n")[0]
    assert len(re.findall(r"^\| `", table, re.MULTILINE)) == len(list(CLIENTS.glob("*/check.*")))


def test_every_comment_of_a_client_has_its_block() -> None:
    for page in PAGES.glob("*.md"):
        comments = len(re.findall(r"<!-- client:", page.read_text(encoding="utf-8")))
        assert comments == sum(block.place.startswith(f"{page.name}:") for block in blocks()), page.name


def test_a_program_is_run_with_the_server_s_address_and_models() -> None:
    environment = {variable: f"[{variable}]" for variable in WRITTEN.values()}
    for block in blocks():
        program = block.program(environment)
        assert not [written for written in WRITTEN if written in program], block.place
        assert "[GPUX_" in program, block.place
        if block.language == "console":
            assert not re.search(r"^\$ ", program, re.MULTILINE)


def test_lines_of_a_shell_that_continue_keep_their_text() -> None:
    (block,) = [one for one in blocks() if one.client == "llm"]
    environment = dict.fromkeys(WRITTEN.values(), "x")
    assert "\nEND\n" in block.program(environment)
    assert block.text.startswith("$ cat")


def test_a_place_is_the_line_of_the_program() -> None:
    block = blocks()[0]
    page, _, line = block.place.partition(":")
    lines = Path(PAGES / page).read_text(encoding="utf-8").splitlines()
    assert lines[int(line) - 1] == block.text.splitlines()[0]
