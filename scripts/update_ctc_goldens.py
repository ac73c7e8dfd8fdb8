"""Write tests/pipelines/ctc_goldens.json: texts, chars and words that transformers' CTC tokenizers decode.

Run from the repository's root with the interpreter of the toolchain ``optimum``:
``python scripts/update_ctc_goldens.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.pipelines.ctc_cases import CASES  # noqa: E402

FILE = ROOT / "tests" / "pipelines" / "ctc_goldens.json"


def answer(folder: Path, vocabulary: dict[str, Any], settings: dict[str, Any], ids: list[int]) -> dict[str, Any]:
    """What the pipeline of transformers decodes."""
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    config = {"tokenizer_class": "Wav2Vec2CTCTokenizer", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    chars = tokenizer.decode(ids, output_char_offsets=True)["char_offsets"]
    words = []
    if hasattr(tokenizer, "replace_word_delimiter_char"):  # not of phonemes
        words = tokenizer._get_word_offsets(chars, tokenizer.replace_word_delimiter_char)
    return {
        "text": tokenizer.decode(ids),
        "chars": [[one["char"], int(one["start_offset"]), int(one["end_offset"])] for one in chars],
        "words": [[one["word"], int(one["start_offset"]), int(one["end_offset"])] for one in words],
    }


def main() -> None:
    """Write the file."""
    found = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = answer(Path(folder), *case)
    FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
