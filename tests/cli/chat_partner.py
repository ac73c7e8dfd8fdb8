"""A pipeline that answers without a model, and `gpux chat` with it: as a program, on a terminal of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Iterator
from typing import Any, Self

from gpux.errors import ChatTemplateError
from gpux.pipelines.chat.template import ChatTemplate
from gpux.pipelines.generation.streaming import TextStreamer
from gpux.runtime.generation.results import Generation, Timings
from gpux.system.cancel import CancelToken

CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


class Partner:
    """Says each word of the last message back; `forever` until it is cancelled, `silence` likewise without a word."""

    def __init__(self, template: str | None = CHATML) -> None:
        self.chat_template = ChatTemplate({} if template is None else {"default": template})
        self.asked: list[list[dict[str, Any]]] = []
        self.options: list[dict[str, Any]] = []
        self.closed = False
        self.session = self
        self.notes = ("cuda: not here",)

    def stream(self, messages: list[dict[str, Any]], *, cancel: CancelToken, **options: Any) -> TextStreamer:
        self.asked.append([dict(message) for message in messages])
        self.options.append(options)
        text = str(messages[-1]["content"])
        if text == "refuse":
            raise ChatTemplateError("the chat template refuses this: no", hint="Say something else.")
        return TextStreamer(self._pieces(text, cancel), cancel)

    def _pieces(self, text: str, cancel: CancelToken) -> Generator[str, None, Generation]:
        said: list[str] = []
        for word in _words(text):
            if cancel.cancelled:
                break
            if word == "break":
                raise ChatTemplateError("broken in the middle")
            if word != "silence":
                said.append(f" {word}" if said else word)
                yield said[-1]
        return Generation(
            text="".join(said),
            tokens=tuple(range(len(said))),
            finish_reason="cancelled" if cancel.cancelled else "eos",
            prompt_tokens=40,
            timings=Timings(prefill=0.25, decode=0.5, steps=10, reused_tokens=30),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


def _words(text: str) -> Iterator[str]:
    if text not in ("forever", "silence"):
        yield from text.split(" ")
        return
    if text == "silence":
        print("silence was asked", file=sys.stderr, flush=True)
    while True:
        time.sleep(0.01)
        yield text


def main() -> None:
    """`gpux chat` with this partner; the terminal on standard input becomes the controlling one, for Ctrl-C."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))
    piped()


def piped() -> None:
    """`gpux chat` with this partner."""
    from gpux.cli.main import run
    from gpux.pull import open as opening

    opening.open_model = lambda *_, **__: None  # type: ignore[assignment]
    opening.pipeline = lambda *_, **__: Partner()  # type: ignore[assignment, return-value]
    sys.exit(run(["chat", "org/name", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
