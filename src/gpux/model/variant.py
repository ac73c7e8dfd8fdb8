"""A runnable variant: its key, its graphs, how the graphs are called, the proof, and the manifest with all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpux.model.html import facts
from gpux.model.json_file import read_json
from gpux.model.tasks import canonical, task_by_inputs
from gpux.model.transfer import TransferReport
from gpux.model.units import format_bytes
from gpux.model.values import Value

ProofStatus = Literal["proven", "shipped", "inexact"]
AnswerStatus = Literal["proven", "failed", "not compared"]

#: Version of the manifest's keys; :mod:`gpux.store.manifest` reads older ones too.
MANIFEST_SCHEMA = 2

#: :attr:`Recipe.base` of variants that are the repository's own ONNX.
SHIPPED = "shipped"


class Recipe(str):
    """How the graphs of a variant were produced: ``shipped``, ``optimum``, ``optimum+int8-dynamic-perchannel`` …

    The value is the spelling in manifests, folder names and JSON: the base and, after ``+``, the quantization.
    """

    __slots__ = ()

    @property
    def base(self) -> str:
        """The name of the converter, or :data:`SHIPPED`."""
        return self.partition("+")[0]

    @property
    def converter(self) -> str | None:
        """The name of the converter; None for the repository's own ONNX."""
        return self.base if self.is_converted else None

    @property
    def quantization(self) -> str | None:
        """What gpux quantized the graphs with, such as ``int8-dynamic-perchannel``; None where it did not."""
        return self.partition("+")[2] or None

    @property
    def is_converted(self) -> bool:
        """Whether a converter wrote the graphs from the original weights, quantized afterwards or not."""
        return self.base != SHIPPED

    def quantized(self, quantization: str) -> Recipe:
        """The recipe of a variant that is quantized from this one."""
        return Recipe(f"{self.base}+{quantization}")


@dataclass(frozen=True)
class VariantKey(Value):
    """What distinguishes a variant from all others in a store."""

    scheme: str
    id: str
    commit: str
    task: str
    precision: str
    recipe: Recipe

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", Recipe(self.recipe))

    def __str__(self) -> str:
        return f"{self.id}@{self.commit[:12]} ({self.task}, {self.precision})"


@dataclass(frozen=True)
class TensorSpec(Value):
    """Name, dtype and shape of a graph's input or output; a dynamic axis is its name, or None."""

    name: str
    dtype: str  #: numpy name: ``int64``, ``float32`` …
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class GraphSpec(Value):
    """One ONNX graph of a variant; most tasks have one, named ``model``."""

    name: str
    file: str  #: relative to the variant's folder
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class CallSpec(Value):
    """How the graphs have to be called: as they were in the proof."""

    padding_side: Literal["right", "left"] = "right"
    max_length: int | None = None  #: tokens; longer inputs were not proven
    chunks_after_cache: bool = False  #: several tokens may follow a KV cache in one call
    position_inputs: bool = False  #: the graph has an input with positions
    chunk_rows: int | None = None  #: most rows of a call in which several tokens follow a cache; None: no limit
    #: graph -> input -> axis -> largest size; written into the graph too, where ``Session`` reads and enforces it
    limits: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Threshold(Value):
    """A sequence length beyond which a model computes differently, so that a graph may be correct only up to it."""

    name: str  #: the entry of the configuration: ``sliding_window``, ``rope_scaling`` …
    length: int  #: tokens; the first longer sequence is computed differently
    #: graph -> input -> the axis that counts the tokens
    axes: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class ProofCase(Value):
    """One comparison of ONNX outputs with those of the original, over one call of a graph or a sequence of calls."""

    name: str
    shapes: dict[str, tuple[int, ...]]  #: input of the first call -> shape
    max_abs_diff: float  #: largest over all outputs
    tolerance: float  #: most that ``max_abs_diff`` may be in this case
    kept: bool  #: inputs and reference outputs are stored, so that the case can be replayed
    calls: int = 1  #: number of graph calls: prefill and cached steps, encoder and decoder …
    length: int | None = None  #: tokens in the longest sequence, for cases around a threshold
    #: computed with a small model of the same configuration, where the length is too costly in full size
    small_model: bool = False

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; False for NaN."""
        return self.max_abs_diff <= self.tolerance


@dataclass(frozen=True)
class AnswerProof(Value):
    """The comparison of a variant's pipeline with the reference library, from the input to the answer."""

    status: AnswerStatus
    cases: int = 0  #: number of inputs that were compared
    max_abs_diff: float | None = None  #: largest difference of vectors and scores; None where there were none
    reference: dict[str, str] = field(default_factory=dict)  #: library -> version, of the reference answers
    reason: str = ""  #: what differs, or what was not compared and why


@dataclass(frozen=True)
class Proof(Value):
    """The evidence that the outputs of a variant equal those of the original."""

    status: ProofStatus
    cases: tuple[ProofCase, ...] = ()
    reference: dict[str, str] = field(default_factory=dict)  #: library -> version, of the reference outputs
    onnxruntime: str = ""  #: version, of the ONNX outputs
    execution_provider: str = ""
    limit: Threshold | None = None  #: longer inputs give other outputs, and are refused
    #: of a quantized variant against fp32: ``cosine_mean``, ``kl``, ``top1``, ``perplexity_ratio`` …
    loss: dict[str, float] = field(default_factory=dict)
    answers: AnswerProof | None = None  #: None in manifests of versions that compared graphs only

    @property
    def max_abs_diff(self) -> float | None:
        """Largest difference of all cases of the graphs; None without cases."""
        return max((case.max_abs_diff for case in self.cases), default=None)


@dataclass(frozen=True)
class StoredFile(Value):
    """One file of a variant, as listed in the manifest."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest(Value):
    """The description of a variant; written once, never changed."""

    scheme: str
    id: str
    commit: str
    task: str
    precision: str
    recipe: Recipe
    graphs: tuple[GraphSpec, ...]
    files: tuple[StoredFile, ...]
    call_spec: CallSpec
    proof: Proof
    versions: dict[str, str]  #: library -> version, of the conversion; empty for ``shipped``
    model_type: str | None = None
    license: str | None = None
    created: str = ""  #: ISO 8601, UTC
    own_task: bool = True  #: the model's own task, which a reference without a task stands for
    schema: int = MANIFEST_SCHEMA

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", Recipe(self.recipe))

    @property
    def key(self) -> VariantKey:
        """The key of the variant."""
        return VariantKey(self.scheme, self.id, self.commit, self.task, self.precision, self.recipe)

    @property
    def evidence(self) -> str:
        """What is proven, in two words: ``answers proven`` or ``graph proven``; ``shipped`` and ``inexact`` are the
        status of the proof. A quantized variant has the status of its fp32 variant: ``fp32 proven``."""
        if self.recipe.quantization is not None and self.proof.status != "inexact":
            return f"fp32 {self.proof.status}"
        if self.proof.status != "proven":
            return self.proof.status
        answers = self.proof.answers
        return "answers proven" if answers is not None and answers.status == "proven" else "graph proven"


@dataclass(frozen=True)
class StoredModel(Value):
    """A runnable variant in the store."""

    path: Path
    manifest: Manifest
    #: the download of the pull that returned this value; None for a value read from the store
    report: TransferReport | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> VariantKey:
        """The key of the variant."""
        return self.manifest.key

    @property
    def id(self) -> str:
        """The canonical id of the model."""
        return self.manifest.id

    @property
    def commit(self) -> str:
        """The commit of the source."""
        return self.manifest.commit

    @property
    def task(self) -> str:
        """The Hub's name of the task."""
        return self.manifest.task

    @property
    def pipeline_task(self) -> str:
        """The task of the model's own pipeline; see :func:`gpux.model.tasks.task_by_inputs`."""
        return task_by_inputs(canonical(self.task), [spec.name for spec in self.manifest.graphs[0].inputs])

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.manifest.files)

    def graph(self, name: str = "model") -> GraphSpec:
        """The graph of that name.

        Raises:
            KeyError: the variant has no such graph.
        """
        for graph in self.manifest.graphs:
            if graph.name == name:
                return graph
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Path, size, evidence and the fields of the manifest, on one level; without ``report``."""
        evidence = self.manifest.evidence
        return {"path": str(self.path), "size": self.size, "evidence": evidence, **self.manifest.to_dict()}

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        manifest, proof = self.manifest, self.manifest.proof
        difference = proof.max_abs_diff
        compared = proof.answers.cases if proof.answers else 0
        rows = (
            ("commit", self.commit[:12]),
            ("task", self.task),
            ("precision", manifest.precision),
            ("written by", str(manifest.recipe)),
            ("evidence", manifest.evidence),
            ("answers compared", str(compared) if compared else None),
            ("largest difference of the graphs", None if difference is None else f"{difference:.1e}"),
            ("loss against fp32", ", ".join(f"{name} {value:.4g}" for name, value in proof.loss.items())),
            ("size", format_bytes(self.size)),
            ("folder", str(self.path)),
        )
        return facts(self.id, rows)

    def has_file(self, path: str) -> bool:
        """Whether the manifest lists a file with that path."""
        return any(file.path == path for file in self.manifest.files)

    def read_json(self, name: str) -> dict[str, Any]:
        """The JSON object in one of the files, ``{}`` for a missing file; see :mod:`gpux.model.json_file`."""
        return read_json(self.path / name)
