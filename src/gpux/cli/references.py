"""The arguments of commands that are model references, with their completion by the shell."""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

from gpux.errors import GpuxError
from gpux.model.precisions import AUTO, QUANTIZED


def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of stored models; after a colon, the precisions: the stored ones first, then those that a pull can store."""
    name, colon, _ = incomplete.rpartition(":")
    if not colon or len(name) < 2:  # one letter is a drive
        if incomplete.startswith((".", "/", "~")):
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(id) for id in _stored() if id.startswith(incomplete)]
    id = name.removeprefix("hf:").partition("@")[0]
    precisions = dict.fromkeys((*_stored().get(id, ()), "fp32", *QUANTIZED, AUTO))
    return [CompletionItem(text) for one in precisions if (text := f"{name}:{one}").startswith(incomplete)]


def _stored() -> dict[str, list[str]]:
    """Id -> precisions of the stored variants; nothing where the store cannot be read."""
    from gpux.store import Store
    from gpux.system.settings import Settings

    found: dict[str, list[str]] = {}
    try:  # without a token, which no completion needs and which may be in a slow key store
        settings = Settings.from_env({**os.environ, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"})
        for model in Store(settings.store).models():
            found.setdefault(model.id, []).append(model.manifest.precision)
    except (GpuxError, OSError):
        return {}
    return found


#: One reference, ``ref``; ``refs`` is any number of them.
reference_argument = click.argument("ref", shell_complete=complete)
references_argument = click.argument("refs", nargs=-1, shell_complete=complete)
required_references_argument = click.argument("refs", nargs=-1, required=True, shell_complete=complete)


class _Bash(BashComplete):
    """Completion in bash, which takes a colon as the end of a word: ``org/name:int`` are three words there."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor and the unfinished one, with the parts around each colon joined."""
        count = int(os.environ["COMP_CWORD"])
        words: list[str] = []
        typed = split_arg_string(os.environ["COMP_WORDS"])[: count + 1]
        for index, word in enumerate(typed):
            if index > 1 and (word == ":" or typed[index - 1] == ":"):
                words[-1] += word
            else:
                words.append(word)
        if len(typed) <= count and not (typed and typed[-1] == ":"):
            words.append("")
        self._colons = words[-1].count(":") if ":" in typed else 0
        return words[1:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """The item without what stands before the colon, which bash does not replace."""
        value: Any = item.value.split(":", self._colons)[-1]
        return f"{item.type},{value}"


def install_bash_completion() -> None:
    """Use the class above for bash in place of click's."""
    add_completion_class(_Bash, "bash")
