"""A stored decoder of one layer whose tokens are single characters, so that a test can read what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from gpux.model.variant import CallSpec, GraphSpec, Manifest, Proof, ProofStatus, StoredModel
from tests.runtime.generation import tiny_graphs

EOS, BOS, USER, ASSISTANT = 0, 1, 2, 3
NAMES = ["<eos>", "<bos>", "<user>", "<assistant>"]
CHARACTERS = "abcdefghijklmnopqrstuvwxyz .,!?'\"0123456789-"
LIMIT = tiny_graphs.POSITIONS
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CALL_SPECS: dict[tiny_graphs.Kind, CallSpec] = {
    "growing": CallSpec("left", LIMIT, chunks_after_cache=True, position_inputs=True),
    "shared": CallSpec("right", LIMIT, chunks_after_cache=True, position_inputs=True, chunk_rows=1),
}


def writer(
    folder: Path,
    kind: tiny_graphs.Kind = "shared",
    *,
    template: str | None = TEMPLATE,
    generation_config: dict[str, Any] | None = None,
    call_spec: CallSpec | None = None,
    status: ProofStatus = "proven",
) -> StoredModel:
    """The variant, written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_graphs.write(folder / "model.onnx", kind)
    tokenizer().save(str(folder / "tokenizer.json"))
    config = {"model_type": "llama", "bos_token_id": BOS, "eos_token_id": EOS, "max_position_embeddings": LIMIT}
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **({"chat_template": template} if template else {})}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if generation_config is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation_config))
    manifest = Manifest(
        scheme="hf",
        id="tests/writer",
        commit="0" * 40,
        task="text-generation",
        precision="fp32",
        recipe="mobius",
        graphs=(GraphSpec("model", "model.onnx", (), ()),),
        files=(),
        call_spec=call_spec or CALL_SPECS[kind],
        proof=Proof(status),
        versions={},
    )
    return StoredModel(folder, manifest)


def tokenizer() -> tokenizers.Tokenizer:
    """One token a character, and four special ones."""
    entries = [*NAMES, *CHARACTERS][: tiny_graphs.VOCABULARY]
    made = tokenizers.Tokenizer(models.WordLevel({entry: index for index, entry in enumerate(entries)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens(NAMES)
    return made


def expected(prompt: str, count: int) -> str:
    """What the model writes greedily to a prompt, computed in numpy; up to its end token."""
    coder = tokenizer()
    written = tiny_graphs.greedy(coder.encode(prompt).ids, count)
    if EOS in written:
        written = written[: written.index(EOS)]
    return str(coder.decode(written))
