"""Write tests/pipelines/chat_goldens.json: the prompts that transformers renders with the templates
of tests/pipelines/chat_shapes.py.

Run from the repository's root with a Python that has transformers, such as a toolchain's:
``python scripts/update_chat_goldens.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import jinja2
import tokenizers
import transformers

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.pipelines.chat_shapes import NOW, SHAPES, Case, write  # noqa: E402

FILE = ROOT / "tests" / "pipelines" / "chat_goldens.json"


class Clock(datetime):
    """A clock that always shows :data:`NOW`."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return NOW


def rendered(folder: Path, case: Case) -> dict[str, str]:
    """The rendered prompt, or the template's error."""
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    arguments = dict(case)
    messages = arguments.pop("messages")
    try:
        return {"text": tokenizer.apply_chat_template(messages, tokenize=False, **arguments)}
    except jinja2.TemplateError as exc:
        return {"error": str(exc)}


def main() -> None:
    transformers.logging.set_verbosity_error()
    goldens: dict[str, Any] = {"transformers": transformers.__version__, "shapes": {}}
    with mock.patch("transformers.utils.chat_template_utils.datetime", Clock):
        for name, shape in SHAPES.items():
            with tempfile.TemporaryDirectory() as temporary:
                folder = write(shape, Path(temporary))
                tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a")).save(
                    str(folder / "tokenizer.json")
                )
                goldens["shapes"][name] = {case: rendered(folder, shape.cases[case]) for case in shape.cases}
    FILE.write_text(json.dumps(goldens, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)}: {sum(map(len, goldens['shapes'].values()))} prompts of {len(SHAPES)} shapes")


if __name__ == "__main__":
    main()
