"""The peers of the generation benchmark, called as their documentation shows; run in the peer's own environment.

    PYTHON -m scripts.bench_generation_peers (transformers|optimum|genai) FOLDER THREADS

Greedy, without an end token; a time stamp is taken when a token of every row is known.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from scripts.bench_generation_process import serve

#: (prompts, new tokens) -> {"stamps": seconds from the start of the call to each token, "tokens": ids of each row}
Write = Callable[[list[list[int]], int], dict[str, Any]]


def transformers_model(folder: str, threads: int) -> Any:
    """A transformers model on torch, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    return AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()


def optimum_model(folder: str, threads: int) -> Any:
    """Optimum's export on onnxruntime, called by transformers' ``generate``."""
    import onnxruntime
    from optimum.onnxruntime import ORTModelForCausalLM

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return ORTModelForCausalLM.from_pretrained(folder, session_options=options)


def transformers_generate(model: Any) -> Write:
    """A function that calls ``model.generate`` of transformers."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Stamp(StoppingCriteria):  # type: ignore[misc]
        def __init__(self) -> None:
            self.moments: list[float] = []

        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            self.moments.append(time.perf_counter())
            return torch.zeros(len(input_ids), dtype=torch.bool)

    def write(prompts: list[list[int]], new: int) -> dict[str, Any]:
        stamp = Stamp()
        began = time.perf_counter()
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                do_sample=False,
                pad_token_id=0,
                stopping_criteria=StoppingCriteriaList([stamp]),
            )
        tokens = found[:, ids.shape[1] :].tolist()
        return {"stamps": [moment - began for moment in stamp.moments], "tokens": tokens}

    model.generation_config.eos_token_id = None
    return write


def genai(folder: str) -> Write:
    """A function that runs onnxruntime-genai's loop; ``genai_config.json`` in the folder sets its threads."""
    import numpy as np
    import onnxruntime_genai  # type: ignore[import-not-found]

    model = onnxruntime_genai.Model(folder)

    def write(prompts: list[list[int]], new: int) -> dict[str, Any]:
        began, stamps, size = time.perf_counter(), [], len(prompts[0])
        parameters = onnxruntime_genai.GeneratorParams(model)
        parameters.set_search_options(
            do_sample=False, batch_size=len(prompts), min_length=size + new, max_length=size + new
        )
        generator = onnxruntime_genai.Generator(model, parameters)
        generator.append_tokens(np.array(prompts, np.int32))
        for _ in range(new):
            generator.generate_next_token()
            stamps.append(time.perf_counter() - began)
        tokens = [list(map(int, generator.get_sequence(row)))[size:] for row in range(len(prompts))]
        return {"stamps": stamps, "tokens": tokens}

    return write


def main() -> None:
    """Load a model and answer requests."""
    kind, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "genai":
        serve({"write": genai(folder)})
    else:
        load = transformers_model if kind == "transformers" else optimum_model
        serve({"write": transformers_generate(load(folder, threads))})


if __name__ == "__main__":
    main()
