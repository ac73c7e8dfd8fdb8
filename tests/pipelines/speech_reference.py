"""Tiny Whisper models, and answers of ``transformers.pipeline`` to sounds; run by the toolchain's interpreter.

    python speech_reference.py FOLDER < CALLS

Builds ``FOLDER/NAME`` for each model of :data:`MODELS` that is missing. ``[[name, sound, options], …]`` in, where a
sound is a name in ``FOLDER/sounds.npz``; one answer each out. Options are those of gpux.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.models.whisper import tiny_whisper

#: name -> arguments of the builder
MODELS: dict[str, dict[str, Any]] = {
    "multilingual": {},
    "english": {"multilingual": False, "seed": "english"},
}
#: Options of transformers' pipeline; the others are those of its generation.
_OWN = ("return_timestamps", "chunk_length_s", "stride_length_s")


def main() -> None:
    """Answer."""
    import numpy as np
    import torch
    from transformers import pipeline
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for name, arguments in MODELS.items():
        if not (folder / name).is_dir():
            tiny_whisper(folder / name, **arguments)
    calls = json.load(sys.stdin)
    pipes = {name: pipeline("automatic-speech-recognition", str(folder / name)) for name, *_ in calls}
    answers = []
    for name, sound, options in calls:
        pipe = pipes[name]
        own = {key: options[key] for key in _OWN if key in options}
        generation = {key: value for key, value in options.items() if key not in _OWN}
        if prompt := generation.pop("prompt", None):
            generation["prompt_ids"] = pipe.tokenizer.get_prompt_ids(prompt, return_tensors="pt")
        with np.load(folder / "sounds.npz") as sounds:
            answers.append(pipe(sounds[sound], generate_kwargs=generation, **own))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
