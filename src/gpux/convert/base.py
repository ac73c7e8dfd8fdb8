"""The interface of converters: the request, the report, and the checks around a conversion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpux.convert.memory import MemoryEstimate, proof_peak
from gpux.errors import ConversionError
from gpux.model.values import Value
from gpux.model.variant import CallSpec, Threshold
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback, silent


@dataclass(frozen=True)
class ConversionRequest(Value):
    """One conversion: a folder of source files in, a folder of ONNX and a folder of reference arrays out."""

    source: Path  #: folder with config, weights and tokenizer files of one commit
    output: Path  #: empty folder that becomes the variant
    reference: Path  #: empty folder for reference cases, in the format of :mod:`gpux.convert.reference_case`
    log: Path  #: file that receives the exporter's own output
    model_id: str  #: for messages only
    task: str  #: the Hub's name
    precision: str = "fp32"
    trust_remote_code: bool = False
    seed: int = 0
    answers: bool = True  #: compute the reference library's answers; False only to measure their cost
    #: graph name -> file in ``output``; if given, these graphs are kept and only the reference cases are written
    graphs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversionReport(Value):
    """What a converter wrote."""

    graphs: Mapping[str, str]  #: graph name -> file, relative to the output folder; a single graph is named ``model``
    call_spec: CallSpec
    versions: Mapping[str, str]  #: library -> version of everything that took part, Python included
    seconds: float
    peak_rss: int | None = None  #: bytes
    warnings: tuple[str, ...] = field(default=())
    thresholds: tuple[Threshold, ...] = field(default=())  #: lengths on both sides of which there are reference cases
    #: graph name -> file in ``reference/small``: a small random model of the same configuration, with its own cases
    small_graphs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal(Value):
    """Why a converter does not convert a model."""

    reason: str  #: continues a sentence that begins with the converter's name: "does not support fill-mask"
    supports_architecture: bool  #: the converter supports the model for another task

    def __str__(self) -> str:
        return self.reason


class Converter(ABC):
    """Writes ONNX from a model's source files.

    Most converters are a :class:`~gpux.convert.spec.ConverterSpec`, whose exporter runs in a process of its own. A
    subclass of this class converts in gpux's own process; it is registered under the entry point group
    ``gpux.converters`` too, and is called with the settings as its only argument.
    """

    name: str
    precisions: tuple[str, ...] = ("fp32",)  #: of the graphs that it writes
    proves_others: bool = False  #: it supports requests with ``graphs``: reference cases for another exporter's graphs
    memory: MemoryEstimate = MemoryEstimate()
    priority: int = 100  #: of converters that were not measured for a model, the lowest comes first

    @abstractmethod
    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        """Why this converter does not convert the model; None if it does. Called before any weights are downloaded.

        Args:
            config: the model's ``config.json``.
            task: the Hub's name.
        """

    @abstractmethod
    def check_ready(self) -> None:
        """Return if the converter can run now.

        Raises:
            ToolchainMissingError: its toolchain is not installed; the hint is the command that installs it.
            ToolchainError: its toolchain is damaged.
        """

    @abstractmethod
    def _convert(self, request: ConversionRequest, progress: ProgressCallback, cancel: CancelToken) -> ConversionReport:
        """Write the graphs to ``request.output`` and the reference cases to ``request.reference``."""

    def peak_memory(self, fp32_bytes: int, *, one_graph: bool = False) -> int:
        """Bytes of memory that converting and then proving need at most.

        Args:
            fp32_bytes: size of the weights in float32, four bytes for each parameter.
            one_graph: the model becomes one graph, as encoders and decoders do.
        """
        return max(self.memory.peak(fp32_bytes, one_graph=one_graph), proof_peak(fp32_bytes))

    def convert(
        self,
        request: ConversionRequest,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> ConversionReport:
        """Convert, and check that every file that the report names exists.

        Raises:
            ConversionError: or one of its subclasses; ``.log`` names the exporter's own output.
            UnsupportedError: the exporter does not support the architecture or the task.
            ToolchainMissingError: the converter's toolchain is not installed.
            CancelledError: ``cancel`` was set.
        """
        self.check_ready()
        request.log.parent.mkdir(parents=True, exist_ok=True)
        report = self._convert(request, progress or silent, cancel or CancelToken())
        missing = [file for file in report.graphs.values() if not (request.output / file).is_file()]
        if missing or not report.graphs:
            raise ConversionError(
                f"{self.name} reported {', '.join(missing) or 'no graph'} for {request.model_id} and did not write it",
                hint=f"See {request.log}.",
                log=request.log,
            )
        return report
