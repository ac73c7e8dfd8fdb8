"""The memory that a conversion will need, estimated from the size of the weights alone, before the weights are fetched.

The numbers of gpux's own converters are fits to cold runs on Linux. For models of several graphs and for mobius: peak
resident memory of the worker (T5-base, whisper-small, GPT-2, a Llama of 100M), off by up to a tenth. For Optimum's
single graphs, whose weights are streamed past the exporter: a line through two whole pulls (MiniLM, BERT-base), so the
error for other models, especially larger ones, is not known. The actual memory is watched while a worker runs
(:mod:`gpux.system.resident`).
"""

from __future__ import annotations

from dataclasses import dataclass

#: A protobuf holds 2 GB at most: larger graphs keep their weights in a second file, and fewer copies in memory.
_PROTOBUF = 2_000_000_000
#: onnxruntime holds the file's weights and its own arrangement of them.
_PROOF_FACTOR = 2.0
_PROOF_BASE = 200_000_000


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak memory of a converter's worker in bytes, linear in the size of the float32 weights.

    The defaults are for an exporter that was never measured: torch, the weights, and a graph of the same size.
    """

    base: int = 400_000_000  #: bytes for the libraries, whatever the model
    factor: float = 2.0  #: bytes for each byte of weights, below 2 GB of weights
    large_factor: float = 2.0  #: the same for larger weights
    one_graph: MemoryEstimate | None = None  #: for models that become one graph, where that is measured separately

    def peak(self, fp32_bytes: int, *, one_graph: bool = False) -> int:
        """The estimate, which never shrinks as weights grow.

        Args:
            fp32_bytes: size of the weights in float32, four bytes for each parameter, whatever they are stored as.
            one_graph: the model becomes one graph, as encoders and decoders do.
        """
        if one_graph and self.one_graph is not None:
            return self.one_graph.peak(fp32_bytes)
        if fp32_bytes <= _PROTOBUF:
            return round(self.base + self.factor * fp32_bytes)
        return round(self.base + max(self.factor * _PROTOBUF, self.large_factor * fp32_bytes))


def proof_peak(fp32_bytes: int) -> int:
    """Bytes of memory that loading and running the graph need at most."""
    return round(_PROOF_BASE + _PROOF_FACTOR * fp32_bytes)
