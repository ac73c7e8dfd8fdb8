"""``quantize_model`` on a store: the new variant with all its files, found again, replaced, refused or cancelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpux import CancelToken, Settings, Store, quantize_model
from gpux.errors import CancelledError, ProofError, UsageError
from gpux.model.variant import StoredModel
from gpux.proof.replay import replay
from gpux.quantize.methods import QuantizeOptions
from gpux.runtime.graphs import Graphs
from gpux.store import place
from gpux.system.progress import Event, StageStarted
from tests.quantize.float_variants import WIDTH, decoder, decoder_calls, encoder, float_calls, stored

Commit = Callable[..., StoredModel]


@pytest.fixture
def store(home: Path) -> Store:
    return Store(Settings.from_env().store)


@pytest.fixture
def commit(store: Store, tmp_path: Path) -> Commit:
    """Stores a hand-made variant, with a file beside its graph; arguments as those of ``float_variants.stored``."""

    def make(*arguments: Any, **options: Any) -> StoredModel:
        made = stored(tmp_path / "made", *arguments, **options)
        (made.path / "vocab.txt").write_text("a")
        with store.staging() as staging:
            for file in made.path.rglob("*"):
                if file.is_file():
                    place(file, staging.path / file.relative_to(made.path))
            return staging.commit(replace(made.manifest, files=()))

    return make


@pytest.fixture
def model(commit: Commit) -> StoredModel:
    return commit(decoder(), decoder_calls())


def stages(events: list[Event]) -> list[str]:
    return [event.stage for event in events if isinstance(event, StageStarted)]


@pytest.mark.parametrize("external", [False, True])
def test_the_variant_is_complete_and_can_be_replayed(commit: Commit, store: Store, external: bool) -> None:
    model = commit(decoder(), decoder_calls(), external=external)

    found = quantize_model(model, "q8")

    assert (found.manifest.precision, found.manifest.recipe) == ("int8", "x+int8-blocks32")
    assert found.manifest.proof.status == "proven" and found.manifest.proof.loss["kl"] < 0.05
    assert {file.path for file in found.manifest.files} == {file.path for file in model.manifest.files}
    assert store.verify(found).ok and store.verify(model).ok
    assert found.size < 0.5 * model.size
    with Graphs.of(found) as graphs:
        assert [case.calls for case in replay(found, graphs.run)] == [2]
    assert (store.root.parent / "logs").is_dir()


def test_a_stored_variant_is_returned_unless_forced(model: StoredModel) -> None:
    events: list[Event] = []
    first = quantize_model(model, "int8", progress=events.append)
    assert stages(events) == ["prove", "convert", "prove", "store"]

    events.clear()
    assert quantize_model(model, "int8", progress=events.append) == first
    assert stages(events) == []

    again = quantize_model(model, "int8", force=True, progress=events.append)
    assert again.path == first.path and again.manifest.created != first.manifest.created
    assert stages(events) == ["prove", "convert", "prove", "store"]


def test_other_options_make_another_variant(model: StoredModel) -> None:
    first = quantize_model(model, "int4")
    second = quantize_model(model, "int4", options=QuantizeOptions(block=32))

    assert [variant.manifest.recipe for variant in (first, second)] == ["x+int4-blocks64", "x+int4-blocks32"]
    assert first.path != second.path and first.path.exists()


def test_a_loss_beyond_the_limits_is_stored_only_if_allowed(commit: Commit, store: Store) -> None:
    model = commit(encoder(scale=1e6), float_calls(2, 5, WIDTH))

    with pytest.raises(ProofError, match="beyond its limits"):
        quantize_model(model, "fp16")
    assert store.models() == [model]

    assert quantize_model(model, "fp16", allow_inexact=True).manifest.proof.status == "inexact"
    with pytest.raises(ProofError, match="beyond its limits"):
        quantize_model(model, "fp16")


def test_a_cancelled_quantization_stores_nothing(model: StoredModel, store: Store) -> None:
    token = CancelToken()
    token.cancel()

    with pytest.raises(CancelledError):
        quantize_model(model, "int8", cancel=token)

    assert store.models() == [model]


@pytest.mark.parametrize("precision", ["int3", "fp32", "q1"])
def test_other_precisions_are_refused(model: StoredModel, precision: str) -> None:
    with pytest.raises(UsageError, match=f"cannot quantize to '{precision}'"):
        quantize_model(model, precision)


def test_another_store_can_be_given(model: StoredModel, tmp_path: Path) -> None:
    found = quantize_model(model, "int8", store=Store(tmp_path / "other"))

    assert found.path.is_relative_to(tmp_path / "other")
