"""Write src/gpux/pipelines/text/tokenizer_classes.json: the tokenizer class of each model type, the classes that
transformers has only in Python, and the language codes that three classes add.

Run with the interpreter of the toolchain ``optimum``: ``python scripts/update_tokenizer_classes.py``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import transformers
from transformers import PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES
from transformers.models.mbart.tokenization_mbart_fast import FAIRSEQ_LANGUAGE_CODES as MBART
from transformers.models.mbart50.tokenization_mbart50_fast import FAIRSEQ_LANGUAGE_CODES as MBART50
from transformers.models.nllb.tokenization_nllb_fast import FAIRSEQ_LANGUAGE_CODES as NLLB

FILE = Path(__file__).resolve().parents[1] / "src/gpux/pipelines/text/tokenizer_classes.json"


def main() -> None:
    """Write the table."""
    chosen = {kind: fast or slow for kind, (slow, fast) in TOKENIZER_MAPPING_NAMES.items() if fast or slow}
    names = sorted({name for pair in TOKENIZER_MAPPING_NAMES.values() for name in pair if name})
    only_python = [name for name in names if not name.endswith("Fast") and not _fast(name)]
    table = {
        "transformers": transformers.__version__,
        "model_types": dict(sorted(chosen.items())),
        "only_python": only_python,
        "languages": {"MBart": list(MBART), "MBart50": list(MBART50), "Nllb": list(NLLB)},
    }
    FILE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {len(chosen)} model types, {len(only_python)} classes in Python only", file=sys.stderr)


def _fast(name: str) -> bool:
    found = getattr(transformers, f"{name}Fast", None)
    return isinstance(found, type) and issubclass(found, PreTrainedTokenizerFast)


if __name__ == "__main__":
    main()
