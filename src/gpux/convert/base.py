"""What a converter is: the request it gets, the report it gives, and the checks around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gpux.errors import ConversionError
from gpux.model.values import Value
from gpux.model.variant import Driving, Threshold
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback, silent


@dataclass(frozen=True)
class ConversionRequest(Value):
    """One conversion: a folder of source files in, a folder of ONNX and a folder of reference arrays out."""

    source: Path  #: config, weights and tokenizer files of one commit
    output: Path  #: an empty folder that becomes the variant
    reference: Path  #: an empty folder for the inputs and the original's outputs, see :mod:`gpux.proof.cases`
    log: Path  #: file that takes the exporter's own output
    model_id: str  #: for messages only; nothing is derived from it
    task: str  #: the Hub's name
    precision: str = "fp32"
    trust_remote_code: bool = False
    seed: int = 0
    #: graph name -> file, of graphs that are in ``output`` already: nothing is exported, the original is only asked
    graphs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversionReport(Value):
    """What a converter wrote."""

    graphs: Mapping[str, str]  #: graph name -> file, relative to the output folder; one alone is named ``model``
    driving: Driving
    versions: Mapping[str, str]  #: library -> version that took part, Python included
    seconds: float
    peak_rss: int | None = None  #: bytes
    warnings: tuple[str, ...] = field(default=())
    thresholds: tuple[Threshold, ...] = field(default=())  #: lengths that the reference cases were made around
    #: graph name -> file in ``reference/twin``: a small model of the same configuration, its cases beside it
    twin: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal(Value):
    """Why a converter cannot take a model."""

    reason: str
    knows_architecture: bool  #: it would take the model for another task

    def __str__(self) -> str:
        return self.reason


class Converter(ABC):
    """Writes ONNX from a model's source files. A new one implements :meth:`_convert` and the two questions.

    It registers under the entry point group ``gpux.converters`` and is made with the settings as only argument.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)  #: what it can write
    proves_others: ClassVar[bool] = False  #: it answers requests with ``graphs``: what somebody else exported

    @abstractmethod
    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        """Why this converter cannot take the model, from its ``config.json`` and the task alone; None if it can.

        Asked before any weights are downloaded.
        """

    @abstractmethod
    def check_ready(self) -> None:
        """Return if the converter can run now.

        Raises:
            ToolchainMissingError: its environment is not installed; the hint is the command that installs it.
            ToolchainError: it is there and damaged.
        """

    @abstractmethod
    def _convert(self, request: ConversionRequest, progress: ProgressCallback, cancel: CancelToken) -> ConversionReport:
        """Write the graphs to ``request.output`` and the reference arrays to ``request.reference``."""

    def convert(
        self,
        request: ConversionRequest,
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> ConversionReport:
        """Convert, and check that what the report names is there.

        Raises:
            ConversionError: or one of its subclasses; ``.log`` names the exporter's own output.
            UnsupportedError: the exporter refuses the architecture or the task.
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
