"""The outputs of a graph of texts: vectors of tokens, and a vector of the whole text that the graph computes itself.

Exporters of sentence-transformers models (Optimum's ``sentence_transformers`` exports, onnx-community's EmbeddingGemma)
put pooling and the layers after it into the graph, and name the result ``sentence_embedding``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpux.model.variant import TensorSpec

TOKEN_VECTORS = ("last_hidden_state", "token_embeddings")
#: Names of a text's vector, the first that a graph has: of Optimum, of fastembed's and CLIP's exports, of bge-m3.
SENTENCE_VECTORS = (
    "sentence_embedding",
    "sentence_embeddings",
    "text_embeds",
    "text_embedding",
    "text_embeddings",
    "embedding",
    "embeddings",
    "dense_vecs",
)
#: Outputs of rank 2 that are not the vector of a text: BERT's pooler was trained to tell pairs of sentences apart.
_OTHERS = ("logits", "pooler_output", "start_logits", "end_logits", "image_embeds")
#: Operators that pass a weight on in another form.
_PASSING = frozenset({"Identity", "Cast", "Transpose", "DequantizeLinear", "Reshape"})


def token_output(outputs: Sequence[TensorSpec]) -> str | None:
    """The output with one vector for each token, of rank 3: by its name, else the first one; None without."""
    return _first(TOKEN_VECTORS, [spec.name for spec in outputs if len(spec.shape) == 3 and "float" in spec.dtype])


def sentence_output(outputs: Sequence[TensorSpec], config: Mapping[str, Any]) -> str | None:
    """The output with the vector of the whole text, of rank 2, as the graph computes it; None without.

    By its name. A graph whose only float output has another name gives the vector there, unless ``config.json`` says
    that the model classifies.
    """
    floats = [spec for spec in outputs if "float" in spec.dtype]
    flat = [spec.name for spec in floats if len(spec.shape) == 2]
    named = next((name for name in SENTENCE_VECTORS if name in flat), None)
    classifies = any(str(name).endswith("Classification") for name in config.get("architectures") or ())
    alone = len(floats) == 1 and len(flat) == 1 and flat[0] not in _OTHERS and not classifies
    return flat[0] if named is None and alone else named


def linear_layers(graph: Path, start: str, end: str) -> int | None:
    """How many linear layers a graph has between two of its values; None where ``end`` does not depend on ``start``.

    A linear layer multiplies by a weight: MatMul, Gemm and their quantized forms.
    """
    import onnx  # slow to import, and needed for few graphs

    found = onnx.load(graph, load_external_data=False).graph
    made = {name: node for node in found.node for name in node.output}
    weights = {tensor.name for tensor in found.initializer}
    weights |= {name for node in found.node if node.op_type == "Constant" for name in node.output}
    starts = _same_values(start, made)
    seen: set[str] = set()
    waiting, layers, reached = [end], 0, False
    while waiting:
        name = waiting.pop()
        reached = reached or name in starts
        if name in seen or name in starts or name not in made:
            continue
        node = made[name]
        seen.update(node.output)
        multiplies = "MatMul" in node.op_type or "Gemm" in node.op_type
        layers += multiplies and any(_is_weight(value, made, weights) for value in node.input)
        waiting.extend(value for value in node.input if value)
    return layers if reached else None


def _same_values(name: str, made: Mapping[str, Any]) -> set[str]:
    """A value, and those that it repeats under another name or in another dtype."""
    found = {name}
    while name in made and made[name].op_type in ("Identity", "Cast"):
        name = made[name].input[0]
        found.add(name)
    return found


def _is_weight(name: str, made: Mapping[str, Any], weights: Iterable[str]) -> bool:
    while name not in weights:
        if name not in made or made[name].op_type not in _PASSING:
            return False
        name = made[name].input[0]
    return True


def _first(names: Sequence[str], fitting: Sequence[str]) -> str | None:
    return next((name for name in (*names, *fitting) if name in fitting), None)
