"""Quantizes a stored variant and stores the result: quantized graphs, all other files as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from gpux.model.precisions import canonical_precision
from gpux.model.units import format_bytes
from gpux.model.variant import Manifest, Proof, StoredModel
from gpux.proof.answers import carry_answers
from gpux.proof.cases import FOLDER
from gpux.quantize.graphs import QuantizedGraphs, quantize_graphs
from gpux.quantize.methods import QuantizeOptions, methods
from gpux.runtime.graphs import Graphs
from gpux.runtime.onnx_runtime import runtime_version
from gpux.runtime.session import Session
from gpux.store import Staging, Store, place
from gpux.system.cancel import CancelToken
from gpux.system.process import log_file
from gpux.system.progress import ProgressCallback, Stages
from gpux.system.progress_argument import callback
from gpux.system.settings import Settings

#: Opens a graph to measure the loss.
SessionFactory = Callable[[Path], Session]


def quantize_model(
    model: StoredModel,
    precision: str,
    *,
    options: QuantizeOptions | None = None,
    allow_inexact: bool = False,
    force: bool = False,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
    settings: Settings | None = None,
    store: Store | None = None,
) -> StoredModel:
    """Store a float32 variant in another precision, and return the new variant; needs no network and no torch.

    The loss against float32 is measured and stored in the manifest (``model.manifest.proof.loss``). An equal variant
    that is stored already is returned as it is.

    Args:
        model: a stored variant in fp32.
        precision: ``fp16``, ``int8`` or ``int4``, or an alias such as ``q8``.
        options: of the quantization; by default those that suit the model and this machine's processor.
        allow_inexact: store the variant although the loss is beyond a limit, marked as ``inexact``.
        force: quantize again although the variant is stored, and replace it.
        progress: called with progress events, from any thread but one at a time; True draws them on stderr, None does
            so in a notebook only.
        cancel: cancels the quantization with ``CancelledError``.
        settings: by default the environment's.
        store: by default the one of the settings.

    Raises:
        UsageError: an unknown precision, or the variant is not fp32.
        UnsupportedError: the precision is not supported for these graphs.
        ProofError: the loss is beyond a limit, or the variant has no proof cases.
        ConversionError: the quantizer failed; OutOfMemoryError: it needed more memory than is available.
        CancelledError: ``cancel`` was set.
    """
    precision, options = canonical_precision(precision), options or QuantizeOptions()
    names = [method.name for method in methods(model, precision, options)]
    recipes = {model.manifest.recipe.quantized(name) for name in names}
    settings = settings or Settings.from_env()
    store, stages, token = store or Store(settings.store), Stages(callback(progress)), cancel or CancelToken()
    scheme, id, commit, task = model.manifest.scheme, model.id, model.commit, model.task

    def stored() -> StoredModel | None:
        found = store.find(scheme, id, commit, task=task, precision=precision)
        if force or found is None or found.manifest.recipe not in recipes:
            return None
        refused = found.manifest.proof.status == "inexact" and not allow_inexact
        return found if not refused and store.verify(found, hashes=False).ok else None

    def on_wait() -> None:
        stages.warn("another process is working on this model; waiting for it")

    found = stored()
    if found is not None:
        return found
    with store.lock(scheme, id, commit, task, precision, cancel=token, on_wait=on_wait):
        return stored() or quantize_variant(
            model,
            precision,
            store=store,
            settings=settings,
            stages=stages,
            cancel=token,
            options=options,
            allow_inexact=allow_inexact,
            replace_stored=force,
        )


def quantize_variant(
    model: StoredModel,
    precision: str,
    *,
    store: Store,
    settings: Settings,
    stages: Stages,
    cancel: CancelToken,
    options: QuantizeOptions | None = None,
    allow_inexact: bool = False,
    replace_stored: bool = False,
    open_session: SessionFactory = lambda path: Session(path, device="cpu"),
) -> StoredModel:
    """Quantize and store a variant; the caller holds the lock of the new one. Raises as :func:`quantize_model`."""
    with store.staging() as staging:
        quantized = quantize_graphs(
            model,
            staging.path,
            precision,
            open_graphs=lambda folder, files: Graphs(folder, files, open_session),
            scratch=staging.scratch,
            log=log_file(settings.logs, model.id, model.commit, f"{model.task}-{precision}"),
            options=options,
            allow_inexact=allow_inexact,
            progress=stages.progress,
            cancel=cancel,
        )
        _place_other_files(model, quantized.source_files, staging)
        manifest = _manifest(model, quantized, staging.path, open_session)
        with stages.stage("store", "Storing") as done:
            stored = staging.commit(manifest, replace=replace_stored, progress=stages.progress, cancel=cancel)
            done(f"stored, {format_bytes(stored.size)}")
        return stored


def _place_other_files(model: StoredModel, graph_files: Collection[str], staging: Staging) -> None:
    """Place tokenizer, configs and all other files except the graphs, their external data and the proof cases."""
    for file in model.manifest.files:
        if file.path not in graph_files and not file.path.startswith(f"{FOLDER}/"):
            place(model.path / file.path, staging.path / file.path)


def _manifest(model: StoredModel, quantized: QuantizedGraphs, folder: Path, open_session: SessionFactory) -> Manifest:
    with Graphs(folder, quantized.graphs, open_session) as graphs:
        specs = graphs.specs()
        provider = graphs.session(graphs.names[0]).execution_provider
    source = model.manifest
    proof = Proof(
        "inexact" if quantized.violations else source.proof.status,
        quantized.cases,
        source.proof.reference,
        runtime_version(),
        provider,
        source.proof.limit,
        quantized.loss,
        carry_answers(model, folder),
    )
    return replace(
        source,
        precision=quantized.precision,
        recipe=source.recipe.quantized(quantized.method),
        graphs=specs,
        files=(),
        proof=proof,
        versions={**source.versions, **quantized.versions},
        created="",  # filled in by the store
    )
