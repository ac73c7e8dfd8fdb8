"""The libraries that the APIs of chats need are those of the extra ``chat``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from gpux.chat.api import PART

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_extra_installs_every_library_and_nothing_else() -> None:
    extra = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]["chat"]
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in extra} - {"gpux", "graphql-core"}
    assert set(PART.libraries) == names
    assert PART.missing is None
