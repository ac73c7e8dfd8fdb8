"""Writes the small model's README.md, and expected.json for tests without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.small_held_out import held_out_windows
from scripts.small_text import Document

Facts = Mapping[str, Any]
NEW_TOKENS = 60
#: Prompts of the continuations in the card; the questions are rendered with the chat template.
PROMPTS = ("Once upon a time", "The function returns", "A class is")
QUESTIONS = ("What is a list?", "Tell me a story about a fox.", "Hello!")
CARD = """---
language: en
license: other
license_name: psf-2.0-and-apache-2.0
license_link: LICENSE-PYTHON.txt
library_name: transformers
pipeline_tag: text-generation
tags:
- test-data
---

# A small model to test with

A Llama of {parameters:,} parameters that writes English sentences, so that tests, benchmarks and the demo of gpux have
a real model: its perplexity means something, it streams words, and it stops by itself. It knows nothing worth asking.

| | |
|---|---|
| Shape | {layers} layers, width {width}, {heads} query and {kv_heads} key/value heads, {positions} positions |
| Tokenizer | byte-level BPE, {entries:,} entries, ChatML's marks |
| Weights | fp32, tied embeddings |
| Training | {steps:,} steps, {tokens:,} tokens, {minutes:.1f} minutes of two cores ({precision}) |
| Held-out perplexity, Python's prose | {python:.2f} |
| Held-out perplexity, stories | {stories:.2f} |

Made by `nox -s train_small` (`scripts/train_small.py`), which writes this folder anew. Perplexity is measured as
`scripts/small_held_out.py` says; `expected.json` has it in full, and the ids of the continuations below.

## Text

* Mostly: the language reference, docstrings and comments of CPython {release}, as `text.jsonl.gz`, collected by
  `scripts/small_text.py`. Changes made to it: only paragraphs of running English were kept, each was put on one line,
  quotation marks and dashes were made ASCII, repetitions were left out. One document in twenty is held out.
* One part in five: stories told by a grammar, `scripts/small_stories.py`.
* One part in three: conversations from `scripts/small_chats.py`, in ChatML.

## Licence

The text of CPython is © Python Software Foundation, under the PSF licence version 2 (`LICENSE-PYTHON.txt`), which
allows derivative works; files of the standard library with a licence of their own were left out. The rest, and what
this project has a say in of the weights, is under the Apache licence 2.0, as gpux is.

## Greedy continuations

By transformers, fp32, at most {new_tokens} new tokens:

{samples}
"""


def perplexities(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, documents: list[Document]
) -> dict[str, float]:
    """Kind of held-out text -> perplexity."""
    windows = held_out_windows(lambda text: tokenizer.encode(text, add_special_tokens=False), documents)
    return {kind: _perplexity(model, found) for kind, found in windows.items()}


@torch.no_grad()
def _perplexity(model: LlamaForCausalLM, windows: list[list[int]]) -> float:
    total, count = 0.0, 0
    for window in windows:
        ids = torch.tensor([window])
        logits = model(input_ids=ids).logits[0, :-1].float()
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += len(window) - 1
    return math.exp(total / count)


def continuations(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> list[Facts]:
    """Greedy continuations: each prompt's text and ids, whether it is a chat, and the new ids and their text."""
    chats = [[{"role": "user", "content": question}] for question in QUESTIONS]
    templated = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    found = []
    for shown, prompt in zip((*PROMPTS, *QUESTIONS), (*PROMPTS, *templated), strict=True):
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=NEW_TOKENS, do_sample=False)[0].tolist()
        given = ids["input_ids"].shape[1]
        found.append(
            {
                "prompt": shown,
                "chat": prompt != shown,
                "prompt_ids": out[:given],
                "new_ids": out[given:],
                "text": tokenizer.decode(out[given:], skip_special_tokens=True),
            }
        )
    return found


def write_card(folder: Path, facts: Facts, perplexity: Mapping[str, float], samples: list[Facts]) -> None:
    """Write README.md and expected.json; `facts` are the fields of `CARD` that come from the training."""
    shown = "\n".join(_sample(one) for one in samples)
    card = CARD.format_map({**facts, **perplexity, "new_tokens": NEW_TOKENS, "samples": shown})
    (folder / "README.md").write_text(card, encoding="utf-8")
    expected = {"perplexity": dict(perplexity), "max_new_tokens": NEW_TOKENS, "greedy": samples}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def _sample(sample: Facts) -> str:
    quoted = sample["text"].strip().replace("\n", "\n> ")
    return f"**{sample['prompt']}**{' (chat)' if sample['chat'] else ''}\n\n> {quoted}\n"
