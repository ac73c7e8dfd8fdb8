"""A stored decoder with random weights whose tokens are bytes, and whose chat template has tools and reasoning.

A grammar turns what it writes into valid calls. The marks of calls are special tokens, those of reasoning are not.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from gpux.model.variant import CallSpec, StoredModel
from tests.pipelines.writer import writer
from tests.runtime.generation import tiny_graphs

LIMIT = 768
SPECIAL = ("<eos>", "<|im_start|>", "<tool_call>", "</tool_call>")
TEMPLATE = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool.function.name }} {% endfor %}</tools>{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}:{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function.name }}{{ call.function.arguments.city }}"
    "</tool_call>{% endfor %}{% if message.role == 'tool' %}={{ message.name }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant:{{ '<think>' if think else '' }}{% endif %}"
    "{% if reasoning_effort is defined %}({{ reasoning_effort }}){% endif %}"
    "{# answers may have <think> and </think> #}"
)


def caller(folder: Path) -> StoredModel:
    """The variant, written into a folder."""
    call_spec = CallSpec("right", LIMIT, chunks_after_cache=True, position_inputs=True, chunk_rows=1)
    made = writer(folder, template=TEMPLATE, call_spec=call_spec)
    tokenizer().save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": LIMIT, "bos_token_id": None}))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "<eos>"}))
    _enlarge(folder / "model.onnx", tokenizer().get_vocab_size())
    return replace(made, manifest=replace(made.manifest, id="tests/caller"))


def tokenizer() -> Tokenizer:
    """One token a byte, after the special ones."""
    entries = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({entry: index for index, entry in enumerate(entries)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    return made


def _enlarge(file: Path, vocabulary: int) -> None:
    """Give a graph of :mod:`tiny_graphs` more tokens and positions."""
    model = onnx.load(file)
    random = np.random.default_rng(1)
    words = (random.normal(size=(vocabulary, tiny_graphs.HIDDEN)) * 0.7).astype(np.float32)
    places = (random.normal(size=(LIMIT, tiny_graphs.HIDDEN)) * 0.7).astype(np.float32)
    changed = {"words": words, "head": np.ascontiguousarray(words.T), "places": places}
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = vocabulary
    onnx.save(model, file)
