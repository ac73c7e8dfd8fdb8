"""A stored decoder that answers every chat by one of a few texts, with reasoning and calls of tools.

The chat template ends a prompt with a token that says which text follows, and each token of a text leads to the next.
After the message "Count." the text has no end.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from gpux.model.variant import CallSpec, StoredModel
from tests.pipelines.writer import writer
from tests.runtime.generation import tiny_graphs

LIMIT = 1 << 15
OPENERS = ("<thinks-calls>", "<calls>", "<thinks>", "<talks>", "<reads>", "<counts>")
SPECIAL = ("<eos>", "<|im_start|>", *OPENERS)
THOUGHT_OF_CALLS = ("<think>\n", "I need ", "the weather.", "\n</think>\n\n")
THOUGHT = ("<think>", "A gree", "ting.", "</think>")
CALL = (
    "<tool_call>",
    '\n{"name": ',
    '"get_weather", ',
    '"arguments": ',
    '{"location": ',
    '"San ',
    "Franc",
    'isco"',
    "}}\n",
    "</tool_call>",
)
TALK = ("Hello ", "there, ", "you.")
READ = ("It is ", "dry.")
#: The arguments of the call.
ARGUMENTS = {"location": "San Francisco"}
CHAINS = (
    ("<thinks-calls>", *THOUGHT_OF_CALLS, CALL[0]),
    ("<calls>", *CALL, "<eos>"),
    ("<thinks>", *THOUGHT, TALK[0]),
    ("<talks>", *TALK, "<eos>"),
    ("<reads>", *READ, "<eos>"),
    ("<counts>", "one ", "two ", "one "),
)
TEMPLATE = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool.function.name }} {% endfor %}</tools>{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}:{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function.name }}"
    "{{ call.function.arguments | tojson }}</tool_call>{% endfor %}"
    "{% if message.role == 'tool' %}={{ message.name }}{% endif %}{% endfor %}"
    "{% set quiet = enable_thinking is defined and not enable_thinking %}"
    "{% if add_generation_prompt %}<|im_start|>assistant:{% if messages[-1].role == 'tool' %}<reads>"
    "{% elif messages[-1].content == 'Count.' %}<counts>"
    "{% elif tools %}{{ '<calls>' if quiet else '<thinks-calls>' }}"
    "{% else %}{{ '<talks>' if quiet else '<thinks>' }}{% endif %}{% endif %}{# answers may have </think> #}"
)


def reciter(folder: Path) -> StoredModel:
    """The variant, written into a folder."""
    call_spec = CallSpec("right", LIMIT, chunks_after_cache=True, position_inputs=True, chunk_rows=1)
    made = writer(folder, template=TEMPLATE, call_spec=call_spec)
    coder = tokenizer()
    coder.save(str(folder / "tokenizer.json"))
    for name, more in (
        ("config.json", {"max_position_embeddings": LIMIT, "bos_token_id": None}),
        ("tokenizer_config.json", {"eos_token": "<eos>"}),
    ):
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**found, **more}))
    _rewrite(folder / "model.onnx", coder)
    return replace(made, manifest=replace(made.manifest, id="tests/reciter"))


def tokenizer() -> Tokenizer:
    """One token a byte, after the special ones, and a token for each piece of the texts."""
    entries = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({entry: index for index, entry in enumerate(entries)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    pieces = dict.fromkeys(piece for chain in CHAINS for piece in chain if piece not in SPECIAL)
    made.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in pieces])
    return made


def _rewrite(file: Path, coder: Tokenizer) -> None:
    """Weights by which a token alone decides about the next one."""
    size = coder.get_vocab_size()
    follows = {coder.token_to_id(one): coder.token_to_id(other) for chain in CHAINS for one, other in pairwise(chain)}
    words, head = np.zeros((size, tiny_graphs.HIDDEN), np.float32), np.zeros((tiny_graphs.HIDDEN, size), np.float32)
    for (token, after), signs in zip(follows.items(), _different(len(follows)), strict=True):
        words[token] = 3 * signs
        head[:, after] += signs
    best = (np.tanh(words) @ head).argmax(axis=1)
    assert {token: int(best[token]) for token in follows} == follows
    changed = {"words": words, "head": head, "places": np.zeros((LIMIT, tiny_graphs.HIDDEN), np.float32)}
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
        elif tensor.name == "o":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = size
    onnx.save(model, file)


def _different(count: int) -> list[NDArray[np.float32]]:
    """Vectors of signs, of which no two are alike."""
    random, found = np.random.default_rng(0), list[NDArray[np.float32]]()
    while len(found) < count:
        one = random.choice(np.array([-1, 1], np.float32), tiny_graphs.HIDDEN)
        if all(abs(one @ other) <= 6 for other in found):
            found.append(one)
    return found
