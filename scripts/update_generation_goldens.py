"""Write tests/runtime/generation/golden.npz and golden.json: scores and tokens by transformers.

    PYTHON scripts/update_generation_goldens.py

PYTHON is an interpreter with torch and transformers 4.57 (the `optimum` toolchain's). Options have gpux's names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from transformers.generation import GenerationConfig, GenerationMixin

FOLDER = Path(__file__).parents[1] / "tests" / "runtime" / "generation"
SIZE = 40  # vocabulary of the model
THEIRS = {"eos_token_ids": "eos_token_id", "bad_words": "bad_words_ids"}
SIZES = (5, 60, 300)
#: Sampling options.
CUTS: tuple[dict[str, Any], ...] = (
    *({"temperature": value} for value in (0.3, 1.7)),
    *({"top_k": value} for value in (1, 3, 50)),
    *({"top_p": value} for value in (0.05, 0.5, 0.9, 0.99)),
    *({"min_p": value} for value in (0.02, 0.3, 1.0)),
    *({"typical_p": value} for value in (0.1, 0.6, 0.95)),
    {"temperature": 0.6, "top_k": 40, "top_p": 0.8},
    {"temperature": 1.3, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "typical_p": 0.9},
)
#: Options, length of the prompt, total number of tokens; the vocabulary has 60 tokens.
PROCESSED: tuple[tuple[dict[str, Any], int, int], ...] = (
    ({"repetition_penalty": 1.3}, 5, 20),
    ({"repetition_penalty": 0.8}, 5, 20),
    *(({"no_repeat_ngram_size": size}, 4, 60) for size in (1, 2, 3)),
    ({"no_repeat_ngram_size": 4}, 2, 2),
    ({"no_repeat_ngram_size": 3}, 2, 2),
    ({"bad_words": [[3], [1, 2], [4, 7], [2, 8], [3, 6], [0, 1], [9]], "eos_token_ids": [9]}, 4, 60),
    ({"min_new_tokens": 4, "eos_token_ids": [9, 11]}, 5, 8),
    ({"min_new_tokens": 4, "eos_token_ids": [9, 11]}, 5, 9),
    ({"min_length": 9, "eos_token_ids": [9]}, 5, 8),
    ({"min_length": 9, "eos_token_ids": [9]}, 5, 9),
    ({"forced_bos_token_id": 7}, 1, 1),
    ({"forced_bos_token_id": 7}, 2, 2),
    ({"forced_bos_token_id": 7}, 1, 2),
    ({"forced_eos_token_id": [9], "max_new_tokens": 6}, 3, 8),
    ({"forced_eos_token_id": [9, 10], "max_new_tokens": 6}, 3, 8),
    ({"forced_eos_token_id": [9], "max_new_tokens": 6}, 3, 7),
    ({"suppress_tokens": [1, 5, 59]}, 3, 9),
    *(({"begin_suppress_tokens": [1, 5]}, 3, size) for size in (3, 4)),
    *(({"begin_suppress_tokens": [1, 5], "forced_bos_token_id": 7}, 1, size) for size in (1, 2, 3)),
    (
        {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "bad_words": [[4]], "suppress_tokens": [6]}
        | {"min_new_tokens": 90, "eos_token_ids": [9]},
        4,
        60,
    ),
    *(({"encoder_no_repeat_ngram_size": size}, 40, 60) for size in (1, 2, 3)),
    ({"encoder_no_repeat_ngram_size": 4}, 3, 3),
    ({"encoder_no_repeat_ngram_size": 4}, 2, 2),
    *(({"encoder_repetition_penalty": value}, 5, 20) for value in (1.4, 0.7)),
    (
        {"encoder_repetition_penalty": 1.4, "repetition_penalty": 1.2, "encoder_no_repeat_ngram_size": 2}
        | {"no_repeat_ngram_size": 2},
        30,
        60,
    ),
)
#: Options of generation; each is run with each of ``PROMPTS``.
WRITTEN: tuple[dict[str, Any], ...] = (
    {},
    {"repetition_penalty": 1.4},
    {"no_repeat_ngram_size": 2},
    {"min_new_tokens": 12, "bad_words": [[5], [7, 8]], "suppress_tokens": [1]},
    {"forced_eos_token_id": [3], "max_new_tokens": 9, "min_new_tokens": 9},
    {"begin_suppress_tokens": [28, 33, 14, 24]},
    {"min_length": 12},
    {"min_length": 12, "min_new_tokens": 1},
    *({"num_beams": 4, "num_return_sequences": 4, "length_penalty": value} for value in (1.0, 0.0, 2.0, -1.0)),
    *({"num_beams": 3, "num_return_sequences": 2, "early_stopping": value} for value in (True, False, "never")),
    *(
        {"num_beams": 4, "num_return_sequences": 4, "early_stopping": value, "length_penalty": penalty}
        for value in (True, "never")
        for penalty in (0.0, 2.0)
    ),
    {"num_beams": 3, "early_stopping": "never", "length_penalty": -0.5},
    {"num_beams": 3, "num_return_sequences": 3, "eos_token_ids": [3, 28, 33, 14, 24, 10, 4, 23, 12, 38]}
    | {"early_stopping": "never", "length_penalty": 3.0},
    {"num_beams": 5, "num_return_sequences": 5, "eos_token_ids": [3, 4], "early_stopping": True},
    {"num_beams": 4, "num_return_sequences": 4, "eos_token_ids": []},
    {"num_beams": 3, "num_return_sequences": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2},
    {"num_beams": 3, "num_return_sequences": 3, "min_length": 10, "forced_eos_token_id": [3], "max_new_tokens": 14},
    {"num_beams": 4, "num_return_sequences": 2, "forced_bos_token_id": 9, "bad_words": [[6]]},
    {"num_beams": 4, "num_return_sequences": 2, "renormalize_logits": True, "bad_words": [[6], [7], [8]]},
    {"encoder_no_repeat_ngram_size": 1},
    {"encoder_no_repeat_ngram_size": 2, "encoder_repetition_penalty": 0.6},
    {"num_beams": 3, "num_return_sequences": 3, "encoder_no_repeat_ngram_size": 1},
)
PROMPTS = ((2,), (5, 6), (7, 8, 9, 8), (11, 3, 2))


class Tabled(transformers.PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Scores of the next token depend on the last two; 0 precedes the first token."""

    config_class = transformers.PretrainedConfig

    def __init__(self, config: Any, last: np.ndarray[Any, Any], before: np.ndarray[Any, Any]) -> None:
        super().__init__(config)
        self.last, self.before = torch.nn.Parameter(torch.tensor(last)), torch.nn.Parameter(torch.tensor(before))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        """Scores at every position."""
        before = torch.nn.functional.pad(input_ids, (1, 0))[:, :-1]
        return transformers.modeling_outputs.CausalLMOutput(logits=self.last[input_ids] + self.before[before])


def theirs(options: dict[str, Any]) -> dict[str, Any]:
    """The options under transformers' names."""
    found = {THEIRS.get(name, name): value for name, value in options.items()}
    return {name: value if value != [] else None for name, value in found.items()}


def kinds(size: int) -> dict[str, np.ndarray[Any, Any]]:
    """Kind -> a row of scores."""
    random = np.random.default_rng(size)
    normal = random.standard_normal(size) * 3
    never = np.where(random.random(size) < 0.4, -np.inf, normal)
    never[size // 2] = 1.0
    peaked = np.zeros(size)
    peaked[size // 3] = 12.0
    found = {"normal": normal, "steep": normal * 4, "tied": np.round(normal), "never": never, "peaked": peaked}
    return {name: scores.astype(np.float32) for name, scores in found.items()}


def processed(model: Tabled, options: dict[str, Any], ids: np.ndarray[Any, Any], prompt: int, scores: Any) -> Any:
    """A row of scores after the logits processors of transformers."""
    config = GenerationConfig(**{"top_k": 0, "pad_token_id": 0, **theirs(options)})
    ends = options.get("eos_token_ids")
    config._eos_token_tensor = torch.tensor(ends) if ends else None
    config.max_length = prompt + options.get("max_new_tokens", 256)
    found = model._get_logits_processor(
        config, input_ids_seq_length=prompt, encoder_input_ids=torch.tensor(ids[None, :prompt]), device="cpu"
    )
    return found(torch.tensor(ids[None]), torch.tensor(scores[None]).clone())[0].numpy()


def cuts(model: Tabled) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Probabilities after each of ``CUTS``."""
    arrays: dict[str, Any] = {}
    cases = []
    for size in SIZES:
        for kind, scores in kinds(size).items():
            arrays[f"scores/{kind}{size}"] = scores
            for number, options in enumerate(CUTS):
                left = processed(model, {**options, "do_sample": True}, np.array([1]), 1, scores)
                name = f"{kind}{size}"
                arrays[f"drawn/{name}/{number}"] = torch.softmax(torch.tensor(left), -1).numpy()
                cases.append({"options": options, "scores": name, "expected": f"drawn/{name}/{number}"})
    return arrays, cases


def changes(model: Tabled) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores after processors that depend on earlier tokens."""
    arrays: dict[str, Any] = {}
    cases = []
    random = np.random.default_rng(0)
    for number, (options, prompt, size) in enumerate(PROCESSED):
        ids = random.integers(0, 5, size)
        for kind in ("normal", "never"):
            name = f"changed/{kind}/{number}"
            arrays[name] = processed(model, options, ids, prompt, kinds(60)[kind])
            case = {"options": options, "scores": f"{kind}60", "ids": ids.tolist(), "prompt": prompt}
            cases.append({**case, "expected": name})
    return arrays, cases


def written(model: Tabled, options: dict[str, Any], prompt: tuple[int, ...]) -> dict[str, Any]:
    """The tokens that transformers generates."""
    used = {"max_new_tokens": 16, "eos_token_ids": [3], **options}
    extra = {"pad_token_id": 0, "use_cache": False, "return_dict_in_generate": True, "output_scores": True}
    found = model.generate(torch.tensor([prompt]), do_sample=False, **extra, **theirs(used))
    rows = found.sequences[:, len(prompt) :].tolist()
    if used.get("num_beams", 1) == 1:
        return {"options": used, "prompt": prompt, "tokens": rows}
    sizes = (found.beam_indices >= 0).sum(1).tolist()
    rows = [row[:size] for row, size in zip(rows, sizes, strict=True)]
    return {"options": used, "prompt": prompt, "tokens": rows, "scores": found.sequences_scores.tolist()}


def main() -> None:
    """Write both files."""
    random = np.random.default_rng(1)
    tables = [(random.standard_normal((SIZE, SIZE)) * scale).astype(np.float32) for scale in (1.5, 0.7)]
    tables[0][:, 3] += 1.0  # the end token comes now and then
    model = Tabled(transformers.PretrainedConfig(vocab_size=SIZE), *tables).eval()
    drawn_arrays, drawn_cases = cuts(model)
    changed_arrays, changed_cases = changes(model)
    with torch.no_grad():
        runs = [written(model, options, prompt) for options in WRITTEN for prompt in PROMPTS]
    arrays: dict[str, Any] = {"table/last": tables[0], "table/before": tables[1]}
    np.savez_compressed(FOLDER / "golden.npz", **drawn_arrays, **changed_arrays, **arrays)
    golden = {"transformers": transformers.__version__, "drawn": drawn_cases, "changed": changed_cases, "written": runs}
    rows = {name: value if isinstance(value, str) else "ROWS" for name, value in golden.items()}
    text = json.dumps(rows, indent=1)
    for name, value in golden.items():
        if not isinstance(value, str):
            lines = ",\n".join(json.dumps(case) for case in value)
            text = text.replace(f'"{name}": "ROWS"', f'"{name}": [\n{lines}\n]')
    (FOLDER / "golden.json").write_text(text + "\n", encoding="utf-8")
    sizes = SimpleNamespace(**{name: (FOLDER / f"golden.{name}").stat().st_size for name in ("npz", "json")})
    print(
        f"{len(drawn_cases)} + {len(changed_cases)} + {len(runs)} cases, {sizes.npz} + {sizes.json} bytes",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
