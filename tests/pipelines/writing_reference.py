"""Answers of ``transformers.pipeline`` for calls given as JSON on standard input; run by the toolchain's interpreter.

``[[task, folder, inputs, options], …]`` in, one answer each out. Ends early nowhere: what a call raises is its answer.
"""

from __future__ import annotations

import json
import sys
import warnings


def main() -> None:
    """Answer."""
    import torch
    from transformers import pipeline
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.manual_seed(0)
    answers = []
    for task, folder, inputs, options in json.load(sys.stdin):
        pipe = pipeline(task, model=folder, device="cpu")
        if options.get("tokenizer"):  # which stop strings need
            options["tokenizer"] = pipe.tokenizer
        answers.append(pipe(inputs, **options))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
