"""The program that writes tokenizers with other packages than the rest of its toolchain, and without torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from gpux.convert.worker.common.program import ENVIRONMENT, NOT_NEEDED, skip_byte_order_marks
from gpux.system.worker_protocol import Events, Request, serve


def _prepare(request: Request) -> None:
    os.environ.update(ENVIRONMENT)
    skip_byte_order_marks()
    for name in ("torch", *NOT_NEEDED):
        sys.modules[name] = None  # type: ignore[assignment]  # documented: the import system then says "not found"
    from gpux.convert.worker.tokenizer.work import packages

    sys.path.insert(0, str(packages()))


def _answer(request: Request, events: Events) -> Mapping[str, Any]:
    from gpux.convert.worker.tokenizer.work import answer

    return answer(request, events)


if __name__ == "__main__":
    serve(_answer, _prepare)
