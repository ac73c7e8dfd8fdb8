"""A tokenizer.json for repositories that have only the files of a slow tokenizer."""

from __future__ import annotations

from pathlib import Path

from protocol import Events

#: Any of these, and there is a tokenizer to write.
SLOW_FILES = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model")


def write_fast_tokenizer(source: Path, output: Path, events: Events, *, trust_remote_code: bool) -> None:
    """Write ``tokenizer.json`` into ``output`` where the source has none but could have."""
    if (source / "tokenizer.json").is_file() or not any((source / name).is_file() for name in SLOW_FILES):
        return
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    events.stage("tokenizer", "Writing tokenizer.json")
    found = AutoTokenizer.from_pretrained(
        source, use_fast=True, local_files_only=True, trust_remote_code=trust_remote_code
    )
    if isinstance(found, PreTrainedTokenizerFast):
        found.backend_tokenizer.save(str(output / "tokenizer.json"))
    else:
        events.warning(f"{type(found).__name__} cannot be written as tokenizer.json, so text cannot be tokenized")
