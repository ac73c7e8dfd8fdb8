"""The worker's reference cases against real exports: right graphs are proven, and every planted error is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpux.convert import optimum
from gpux.convert.base import ConversionReport, ConversionRequest
from gpux.convert.host.converter import ToolchainConverter
from gpux.model.tasks import canonical
from gpux.model.variant import Proof
from gpux.proof import cases, comparison
from gpux.runtime.graphs import Graphs
from gpux.system.settings import Settings
from tests.models import zoo
from tests.zoo_models import ZooModels

pytestmark = pytest.mark.toolchain

GENERATION = "text-generation-with-past"
WINDOW = ("mistral+swa", GENERATION)
ENTRIES = (
    WINDOW,
    ("t5", "text2text-generation-with-past"),
    ("swin", "image-classification"),
    ("sam", "feature-extraction"),
    ("llama+dynamic", GENERATION),
    ("convbert", "fill-mask"),
    ("esm", "fill-mask"),
    ("bert", "fill-mask"),
)

Arrays = Mapping[str, NDArray[Any]]
Wrap = Callable[[cases.Runner], cases.Runner]


@pytest.fixture(scope="module")
def folders(zoo_models: ZooModels) -> Path:
    """The models, which no test may change."""
    return zoo_models.build(*(zoo.folder_name(*entry) for entry in ENTRIES))


class Converted:
    """A finished conversion, proven as often as one likes."""

    def __init__(self, request: ConversionRequest, report: ConversionReport) -> None:
        self.report = report
        self._reference = request.reference
        self._graphs = Graphs(request.output, report.graphs)
        self._small = Graphs(request.reference / "small", report.small_graphs)

    def prove(self, wrap: Wrap = lambda run: run, *, small: Wrap | None = None) -> Proof:
        """Against the graphs, or against what a wrapper makes of them."""
        run_small = (small or wrap)(self._small.run) if self.report.small_graphs else None
        return comparison.prove(
            self._reference, wrap(self._graphs.run), "fp32", thresholds=self.report.thresholds, small=run_small
        )

    def close(self) -> None:
        self._graphs.close()
        self._small.close()


@pytest.fixture
def convert(
    folders: Path,
    warm_python: Path,
    settings: Settings,
    make_request: Callable[..., ConversionRequest],
    tmp_path: Path,
) -> Iterator[Callable[..., Converted]]:
    opened: list[Converted] = []

    def run(entry: tuple[str, str], **changes: Any) -> Converted:
        source = Path(shutil.copytree(folders / zoo.folder_name(*entry), tmp_path / "source"))
        if changes:
            config = json.loads((source / "config.json").read_text())
            (source / "config.json").write_text(json.dumps({**config, **changes}))
        request = make_request(source, canonical(entry[1]))
        opened.append(
            Converted(request, ToolchainConverter(optimum.SPEC, settings, python=warm_python).convert(request))
        )
        return opened[-1]

    yield run
    for one in opened:
        one.close()


def failed(found: Proof) -> set[str]:
    return {case.name for case in found.cases if not case.passed}


def forgetting(run: cases.Runner) -> cases.Runner:
    """The cache is not carried."""
    return lambda graph, inputs: run(
        graph, {name: np.zeros_like(array) if name.startswith("past") else array for name, array in inputs.items()}
    )


def attending_padding(run: cases.Runner) -> cases.Runner:
    return lambda graph, inputs: run(
        graph, {name: np.ones_like(array) if name == "attention_mask" else array for name, array in inputs.items()}
    )


def padded_right(run: cases.Runner) -> cases.Runner:
    """The prefill is padded on the other side than the cases are."""

    def shifted(inputs: Arrays) -> dict[str, NDArray[Any]]:
        made, mask = dict(inputs), inputs["attention_mask"]
        for name in ("input_ids", "attention_mask", "position_ids"):
            if inputs["input_ids"].shape == mask.shape and name in made:
                rows = zip(made[name], mask, strict=True)
                made[name] = np.stack([np.roll(row, -int((real == 0).sum())) for row, real in rows])
        return made

    return lambda graph, inputs: run(graph, shifted(inputs))


def wrong_beyond(length: int) -> Wrap:
    """Right up to a length, as a graph is whose trace took one of two ways."""

    def wrap(run: cases.Runner) -> cases.Runner:
        def answer(graph: str, inputs: Arrays) -> Arrays:
            error = 1.0 if inputs["attention_mask"].shape[1] > length else 0.0
            return {name: value + error * (name == "logits") for name, value in run(graph, inputs).items()}

        return answer

    return wrap


def test_a_decoder(convert: Callable[..., Converted]) -> None:
    converted = convert(WINDOW)
    found = converted.prove()
    assert (found.status, found.limit, failed(found)) == ("proven", None, set())
    assert {"short", "single", "ragged", "long", "beyond-sliding_window-8"} <= {case.name for case in found.cases}
    assert max(case.calls for case in found.cases) >= 5
    assert converted.report.call_spec.padding_side == "left"
    assert converted.report.call_spec.chunks_after_cache
    assert not converted.report.small_graphs
    assert failed(converted.prove(forgetting)) >= {"short"}
    assert failed(converted.prove(padded_right)) >= {"ragged"}
    assert failed(converted.prove(attending_padding)) >= {"ragged"}
    limit = converted.prove(wrong_beyond(8)).limit
    assert limit is not None
    assert (limit.name, limit.length, limit.axes) == ("sliding_window", 8, {"model": {"attention_mask": 1}})


def test_a_length_that_costs_too_much(convert: Callable[..., Converted]) -> None:
    """The same weights with a window of 1024: shown on a small model, whose window is 8."""
    converted = convert(WINDOW, sliding_window=1024, max_position_embeddings=4096)
    found = converted.prove()
    assert (found.status, found.limit) == ("proven", None)
    small = {case.name: case.length for case in found.cases if case.small_model}
    assert small["beyond-sliding_window-8"] == 1025
    assert max(case.length or 0 for case in found.cases if not case.small_model) < 100
    limited = converted.prove(small=wrong_beyond(8))
    assert limited.limit is not None
    assert (limited.status, limited.limit.length) == ("proven", 1024)


def test_a_rotation_that_a_trace_freezes(convert: Callable[..., Converted]) -> None:
    """No case can show a limit that is known to be there."""
    call_spec = convert(ENTRIES[4]).report.call_spec
    assert call_spec.max_length == 32
    assert call_spec.limits == {"model": {"attention_mask": {"1": 32}}}


def test_an_encoder_and_a_decoder(convert: Callable[..., Converted]) -> None:
    converted = convert(ENTRIES[1])
    assert converted.prove().status == "proven"
    assert failed(converted.prove(forgetting)) == {"batch", "short", "long"}
    assert failed(converted.prove(attending_padding)) >= {"batch"}


def test_an_image_size_that_does_not_work_is_not_declared(convert: Callable[..., Converted], tmp_path: Path) -> None:
    """swin's windows were traced for one size; more images at once are fine."""
    converted = convert(ENTRIES[2])
    assert converted.prove().status == "proven"
    with Graphs(tmp_path / "output", converted.report.graphs) as graphs:
        assert graphs.session("model").inputs[0].shape[1:] == (3, 32, 32)
        assert isinstance(graphs.session("model").inputs[0].shape[0], str)


def test_an_image_and_points_on_it(convert: Callable[..., Converted]) -> None:
    found = convert(ENTRIES[3]).prove()
    assert found.status == "proven"
    assert {case.calls for case in found.cases} == {2}


@pytest.mark.parametrize(("kind", "together"), [("convbert", False), ("esm", False), ("bert", True)])
def test_rows_that_padding_changes_are_not_batched(
    convert: Callable[..., Converted], kind: str, together: bool
) -> None:
    """convbert's convolutions read padding, and esm scales a row by its share of masks."""
    converted = convert((kind, "fill-mask"))
    limits = converted.report.call_spec.limits["model"]["input_ids"]
    assert limits.get("0") == (None if together else 1)
    found = converted.prove()
    assert found.status == "proven"
    assert max(case.shapes["input_ids"][0] for case in found.cases) == (3 if together else 1)
