"""Replays of the proofs of stored variants on this machine: of their graphs, and of their pipelines' answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpux.convert.answer_case import ANSWERS
from gpux.errors import CancelledError, DeviceError, GpuxError
from gpux.model.values import Value
from gpux.model.variant import StoredModel
from gpux.pipelines.answerer import PipelineAnswerer
from gpux.pipelines.registry import pipeline_of
from gpux.proof.answers import Comparison, replay_answers
from gpux.proof.cases import FOLDER
from gpux.proof.replay import replay
from gpux.runtime.graphs import Graphs
from gpux.system.cancel import CancelToken


@dataclass(frozen=True)
class Replay(Value):
    """The replay of one variant's proof."""

    path: Path
    id: str
    device: str = ""  #: short name of the device that ran the graphs
    graphs: int = 0  #: cases of the graphs that were run again
    answers: int = 0  #: inputs whose answers were compared again
    max_abs_diff: float | None = None  #: largest difference of both
    error: GpuxError | None = None  #: the outputs or answers differ, or the variant cannot be opened

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values, with the error."""
        return {**super().to_dict(), "error": self.error.to_dict() if self.error else None}


def replay_model(
    model: StoredModel, *, device: str = "cpu", intact: bool = True, cancel: CancelToken | None = None
) -> Replay:
    """Run the kept cases of a stored variant again, as its files are now; needs no torch.

    Args:
        model: the variant.
        device: runs the graphs.
        intact: its files match their hashes. Of a damaged variant, the answers only are compared, which shows what a
            file that was edited changes.
        cancel: checked between answers.

    Raises:
        DeviceError: the device is not available.
        CancelledError: ``cancel`` was set.
    """
    cases = 0
    used = ""
    largest: list[float | None] = []
    found = Comparison()
    failure: GpuxError | None = None
    try:
        with Graphs.of(model, device=device) as graphs:
            if intact:
                replayed = replay(model, graphs.run)
                cases, used = len(replayed), graphs.session(graphs.names[0]).device
                largest += [case.max_abs_diff for case in replayed]
            found = _answers(model, graphs, cancel)
            used = used or graphs.session(graphs.names[0]).device
    except (CancelledError, DeviceError):
        raise
    except GpuxError as exc:
        failure = exc
    largest.append(found.max_abs_diff)
    difference = max((value for value in largest if value is not None), default=None)
    return Replay(model.path, model.id, used, cases, len(found.compared), difference, failure)


def _answers(model: StoredModel, graphs: Graphs, cancel: CancelToken | None) -> Comparison:
    if not (model.path / FOLDER / ANSWERS).is_file():
        return Comparison()
    pipe = pipeline_of(model)(model, graphs=graphs)
    same = pipe.session.execution_provider == model.manifest.proof.execution_provider
    return replay_answers(model, PipelineAnswerer(pipe), exact_texts=same, cancel=cancel)
