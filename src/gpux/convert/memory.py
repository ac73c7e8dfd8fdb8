"""How much memory a conversion will take, from the size of the weights alone. Pure: asked before they travel.

The figures are fits to cold runs on Linux. For models of several graphs and for mobius: peak resident memory of the
worker (T5-base, whisper-small, GPT-2, a Llama of 100M), off by up to a tenth. For Optimum's single graphs, whose
weights are streamed past the exporter: a line through two whole pulls (MiniLM, BERT-base), so that nothing says yet how
far off it is for others, least of all for larger ones. What runs is watched all the same
(:mod:`gpux.system.resident`).
"""

from __future__ import annotations

from dataclasses import dataclass

#: A protobuf holds 2 GB at most: larger graphs keep their weights in a file beside, and fewer copies in memory.
_PROTOBUF = 2_000_000_000
#: onnxruntime holds the file's weights and its own arrangement of them.
_PROOF_FACTOR = 2.0
_PROOF_BASE = 200_000_000


@dataclass(frozen=True)
class Appetite:
    """What a converter takes: bytes for itself, and a factor of the fp32 weights, below 2 GB of them and above."""

    base: int
    small: float
    large: float

    def peak(self, weights: int) -> int:
        """Bytes at most, for so many bytes of fp32 weights; never less than for fewer weights."""
        if weights <= _PROTOBUF:
            return round(self.base + self.small * weights)
        return round(self.base + max(self.small * _PROTOBUF, self.large * weights))


APPETITES = {
    "optimum": Appetite(400_000_000, small=4.2, large=2.0),  # two decoders are joined in memory
    "mobius": Appetite(400_000_000, small=2.0, large=2.0),
}
#: Of models that become one graph, where that makes a difference.
_ONE_GRAPH = {"optimum": Appetite(460_000_000, small=1.2, large=1.2)}
#: Of a converter that was never measured: torch, the weights and a graph of the same size.
_UNKNOWN = Appetite(400_000_000, small=2.0, large=2.0)


def conversion_peak(converter: str, fp32_bytes: int, *, one_graph: bool = False) -> int:
    """Bytes of memory that converting and proving take at most, one after the other.

    Args:
        converter: its name, as in the registry.
        fp32_bytes: of the weights in float32, four for each parameter, whatever they are stored as.
        one_graph: the model becomes one graph, as encoders and decoders do.
    """
    appetite = APPETITES.get(converter, _UNKNOWN)
    if one_graph:
        appetite = _ONE_GRAPH.get(converter, appetite)
    return max(appetite.peak(fp32_bytes), proof_peak(fp32_bytes))


def proof_peak(fp32_bytes: int) -> int:
    """Bytes of memory that loading and running the graph take at most."""
    return round(_PROOF_BASE + _PROOF_FACTOR * fp32_bytes)
