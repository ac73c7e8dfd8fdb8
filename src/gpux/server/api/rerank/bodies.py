"""Bodies of requests for rankings; the names are those of Cohere's and Jina's API references."""

from __future__ import annotations

from typing import Any

import msgspec

from gpux.errors import UsageError


class DocumentsBody(msgspec.Struct, kw_only=True):
    """Of Cohere and Jina; keys that are not known have no effect, as there."""

    query: str
    documents: list[Any]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None

    def texts(self) -> list[str]:
        """The text of each document.

        Raises:
            UsageError: there are none, one has no text, or ``top_n`` is less than 1.
        """
        if not self.documents:
            raise UsageError("documents is empty", hint="Send at least one text.", param="documents", empty=True)
        if self.top_n is not None and self.top_n < 1:
            raise UsageError(f"top_n is {self.top_n}", hint="Send at least 1, or omit it.", param="top_n")
        found = []
        for index, one in enumerate(self.documents):
            text = one.get("text") if isinstance(one, dict) else one
            if not isinstance(text, str):
                raise UsageError(
                    f"documents[{index}] is neither a text nor an object with one",
                    hint='Send "…" or {"text": "…"}.',
                    param="documents",
                )
            found.append(text)
        return found
