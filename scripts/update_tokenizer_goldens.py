"""Write tests/pipelines/tokenizer_goldens.json: what transformers' ``AutoTokenizer`` makes of the configurations
in tests/pipelines/tokenizer_configs.py.

Run from the repository's root with the interpreter of the toolchain ``optimum``:
``python scripts/update_tokenizer_goldens.py``.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import transformers

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.pipelines.tokenizer_configs import CONFIGS, CUT, LONG, PAIR, SPECIALS, Config  # noqa: E402

FILE = ROOT / "tests" / "pipelines" / "tokenizer_goldens.json"
#: transformers writes 1e30 where it has no limit.
NO_LIMIT = 10**6


def answers(folder: Path, config: Config) -> dict[str, Any]:
    """Ids and effective settings, or the error of the library."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as exc:  # noqa: BLE001 - tokenizer classes raise anything
        text = " ".join(str(exc).replace(str(folder), "FOLDER").split())
        text = re.sub(r" ?See https?://\S+[^.]*\.?", "", text)  # no addresses of package registries in the file
        return {"error": f"{type(exc).__name__}: {text[:200]}"}
    pair = tokenizer(*PAIR, return_token_type_ids=True)
    limit = tokenizer.model_max_length
    plain = tokenizer("hello world . don't", add_special_tokens=False)["input_ids"]
    return {
        "class": type(tokenizer).__name__,
        "ids": [tokenizer(text)["input_ids"] for text in config.texts()],
        "plain": plain,
        "pair": {"ids": pair["input_ids"], "type_ids": pair["token_type_ids"]},
        "cut": tokenizer(LONG, truncation=True, max_length=CUT)["input_ids"],
        "limit": limit if limit < NO_LIMIT else None,
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "specials": {name: getattr(tokenizer, f"{name}_id") for name in SPECIALS},
        "special_ids": sorted(tokenizer.all_special_ids),
        "decoded": tokenizer.decode(plain),
        "skipped": tokenizer.decode(tokenizer(config.texts()[-4])["input_ids"], skip_special_tokens=True),
    }


def main() -> None:
    transformers.logging.set_verbosity_error()
    found: dict[str, Any] = {}
    for config in CONFIGS:
        with tempfile.TemporaryDirectory() as temporary:
            config.write(Path(temporary))
            found[config.name] = answers(Path(temporary), config)
    lines = [f"{json.dumps(name)}: {json.dumps(answer, ensure_ascii=False)}" for name, answer in found.items()]
    content = ",\n".join([f'"transformers": "{transformers.__version__}"', *lines])
    FILE.write_text(f"{{{content}}}\n", encoding="utf-8")
    errors = {name: answer["error"] for name, answer in found.items() if "error" in answer}
    print(f"{FILE.relative_to(ROOT)}: {len(found)} configurations; errors of the library: {errors}")


if __name__ == "__main__":
    main()
