"""The answers of the reference libraries to the cases of a folder, with models that they load from the repository
themselves; run by the toolchain's interpreter: ``answers_reference.py TASK SOURCE ANSWERS``.

Prints one answer for each case of kind ``call`` or ``encode`` as JSON.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any


def main(task: str, source: str, answers: str) -> None:
    import torch
    from transformers import pipeline
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    cases = json.loads(Path(answers, "answers.json").read_text())["cases"]
    ask: Any
    if any(case["kind"] == "encode" for case in cases):
        for name in [name for name, module in sys.modules.items() if module is None]:
            del sys.modules[name]  # a warm interpreter hides some libraries, as the worker does
        from sentence_transformers import SentenceTransformer

        ask = SentenceTransformer(source, device="cpu").encode
    else:
        pipe = pipeline(task, model=source, device="cpu", torch_dtype=torch.float32)
        limit = pipe.tokenizer.model_max_length if task == "token-classification" else None

        def ask(inputs: Any, **options: Any) -> Any:
            if limit is not None:  # gpux has the length of windows as an option
                pipe.tokenizer.model_max_length = options.pop("max_length", limit)
            return pipe(inputs, **options)

    found = [ask(case["inputs"], **case["options"]) for case in cases if case["kind"] in ("call", "encode")]
    print(json.dumps(found, default=lambda value: value.tolist()))  # of numpy


if __name__ == "__main__":
    main(*sys.argv[1:])
