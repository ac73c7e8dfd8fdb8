"""Files for tests of headers, written from the descriptions of the formats, and a model's files in memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from gpux.errors import EntryNotFoundError
from gpux.inspect.reads import FileReads

_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4, "U8": 1, "I64": 8, "F8_E4M3": 1}
#: value type of GGUF -> code of struct
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
#: type of a GGUF tensor -> weights of a block, bytes of a block
_BLOCKS = {0: (1, 4), 1: (1, 2), 12: (256, 144), 14: (256, 210), 8: (32, 34)}

Tensors = Sequence[tuple[str, str, tuple[int, ...]]]


class MemoryReads(FileReads):
    """Files in memory that record reads. ``tails`` appends that number of zeros to a file."""

    def __init__(self, files: Mapping[str, bytes], tails: Mapping[str, int] | None = None) -> None:
        self.files = files
        self.tails = tails or {}
        self.parts: list[tuple[str, int, int]] = []

    @property
    def received(self) -> int:
        return sum(stop - start for _, start, stop in self.parts)

    def size(self, path: str) -> int:
        if path not in self.files:
            raise EntryNotFoundError(f"no file {path}")
        return len(self.files[path]) + self.tails.get(path, 0)

    def _read(self, path: str, start: int, stop: int) -> bytes:
        self.parts.append((path, start, stop))
        return self.files[path][start:stop].ljust(stop - start, b"\0")


def safetensors(tensors: Tensors, metadata: dict[str, str] | None = None, *, data: bool = True) -> bytes:
    """A safetensors file; its data is zeros, or omitted."""
    place = 0
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    for name, dtype, shape in tensors:
        stop = place + prod(shape) * _SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, stop]}
        place = stop
    return with_header(json.dumps(header).encode(), place if data else 0)


def with_header(text: bytes, data: int = 0) -> bytes:
    """A safetensors file with a header and a number of data bytes."""
    return struct.pack("<Q", len(text)) + text + bytes(data)


class Gguf:
    """A GGUF file as bytes: metadata as (key, type, value), arrays as (9, (type, values)); tensors with types."""

    def __init__(self, order: str = "<", version: int = 3) -> None:
        self.order = order
        self.version = version
        self.keys: list[tuple[str, int, Any]] = []
        self.tensors: list[tuple[str, tuple[int, ...], int]] = []

    def add(self, key: str, kind: int, value: Any) -> Gguf:
        self.keys.append((key, kind, value))
        return self

    def tensor(self, name: str, shape: tuple[int, ...], kind: int = 0) -> Gguf:
        self.tensors.append((name, shape, kind))
        return self

    def header(self, alignment: int = 32) -> bytes:
        """The file without its data, padded."""
        parts = [b"GGUF", self._number("I", self.version)]
        parts += [self._number("Q", len(self.tensors)), self._number("Q", len(self.keys))]
        for key, kind, value in self.keys:
            parts += [self._text(key), self._number("I", kind), self._value(kind, value)]
        place = 0
        for name, shape, kind in self.tensors:
            parts += [self._text(name), self._number("I", len(shape)), *(self._number("Q", size) for size in shape)]
            parts += [self._number("I", kind), self._number("Q", place)]
            place += -(-self.size(shape, kind) // alignment) * alignment
        found = b"".join(parts)
        return found + bytes(-len(found) % alignment)

    @property
    def data(self) -> int:
        """Number of data bytes."""
        return sum(-(-self.size(shape, kind) // 32) * 32 for _, shape, kind in self.tensors)

    def file(self) -> bytes:
        return self.header() + bytes(self.data)

    @staticmethod
    def size(shape: tuple[int, ...], kind: int) -> int:
        weights, size = _BLOCKS[kind]
        return prod(shape) // weights * size

    def _number(self, code: str, value: Any) -> bytes:
        return struct.pack(f"{self.order}{code}", value)

    def _text(self, text: str) -> bytes:
        data = text.encode()
        return self._number("Q", len(data)) + data

    def _value(self, kind: int, value: Any) -> bytes:
        if kind == 8:
            return self._text(value)
        if kind == 9:
            inner, values = value
            items = b"".join(self._value(inner, item) for item in values)
            return self._number("I", inner) + self._number("Q", len(values)) + items
        return self._number(_CODES[kind], value)


def llama(tokens: int = 300, merges: int = 0, layers: int = 2, **changes: Any) -> Gguf:
    """A tiny Llama with a vocabulary of that many tokens, in the order of llama.cpp."""
    file = Gguf(**changes)
    file.add("general.architecture", 8, "llama").add("general.name", 8, "Tiny").add("general.license", 8, "mit")
    for key, value in (("context_length", 8192), ("embedding_length", 256), ("block_count", layers)):
        file.add(f"llama.{key}", 4, value)
    file.add("llama.attention.head_count", 4, 8).add("llama.attention.head_count_kv", 4, 2)
    file.add("tokenizer.ggml.model", 8, "gpt2")
    file.add("tokenizer.ggml.tokens", 9, (8, [token(number) for number in range(tokens)]))
    file.add("tokenizer.ggml.token_type", 9, (5, [1] * tokens))
    if merges:
        pairs = [f"{token(number)} {token(number * 7 % merges)}" for number in range(merges)]
        file.add("tokenizer.ggml.merges", 9, (8, pairs))
    file.add("tokenizer.ggml.eos_token_id", 4, 2).add("tokenizer.chat_template", 8, "{{ messages }}")
    file.add("general.quantization_version", 4, 2)
    file.tensor("token_embd.weight", (256, tokens), 12)
    for layer in range(layers):
        file.tensor(f"blk.{layer}.attn_q.weight", (256, 256), 12).tensor(f"blk.{layer}.attn_norm.weight", (256,))
        file.tensor(f"blk.{layer}.ffn_down.weight", (512, 256), 14)
    return file


def token(number: int) -> str:
    """A token as in vocabularies: short ones first, some in other scripts, some with dots."""
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    text = ""
    while number:
        text, number = letters[number % 26] + text, number // 26
    return {0: f"Ġ{text}", 3: f"ä½{text}", 5: f"torch.{text}"}.get(len(text) * 7 % 11, text or "Ġ")
