"""The pipeline of a variant that is not stored yet, opened on the graphs of its proof, and compared with the reference.

A task without a pipeline keeps the proof of its graphs. Where the reference library fails on the model, so may the
pipeline, and the proof of the graphs stands too.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gpux.convert.answer_case import CALL, ENCODE, AnswerSet, read_answers
from gpux.errors import CancelledError, GpuxError, ProofError, UnsupportedError
from gpux.inspect.formats.run_files import kind_by_name
from gpux.model.tasks import canonical
from gpux.model.variant import AnswerProof, Manifest, Proof, StoredFile, StoredModel
from gpux.pipelines.answerer import PipelineAnswerer
from gpux.pipelines.base import Pipeline
from gpux.pipelines.registry import pipeline_of, pipelines
from gpux.proof.answers import Comparison, differs, keep_answers, prove_answers
from gpux.runtime.graphs import Graphs
from gpux.system.cancel import CancelToken
from gpux.system.files import walk

_ALLOW = "`--allow-inexact` stores the variant and marks it as inexact."


def has_pipeline(task: str) -> bool:
    """Whether a pipeline is registered for a task."""
    return canonical(task) in pipelines()


def open_staged(folder: Path, manifest: Manifest, graphs: Graphs) -> Pipeline:
    """The pipeline of a variant in a staging folder, which runs graphs that are open.

    Args:
        folder: has all files but the manifest.
        manifest: of the variant; its ``files`` are filled in here.
        graphs: of the variant; closed together with the pipeline.

    Raises:
        GpuxError: it cannot be opened; the message names the model and no staging folder.
    """
    files = tuple(StoredFile(file.name, file.size, "") for file in walk(folder))
    staged = StoredModel(folder, replace(manifest, files=files))
    try:
        pipe = pipeline_of(staged)(staged, graphs=graphs)
        with suppress(UnsupportedError):  # of a module of sentence-transformers: vectors of tokens are there still
            getattr(pipe, "sentence", None)  # reads files that the first encode() would read
        return pipe
    except CancelledError:
        raise
    except GpuxError as exc:
        hint = None if exc.hint is None or "verify" in exc.hint else exc.hint
        raise type(exc)(_not_opened(manifest, exc.message, folder), hint=hint, **exc.details) from exc
    except Exception as exc:  # a configuration of an unforeseen form, or a plug-in's pipeline
        raise ProofError(_not_opened(manifest, f"{type(exc).__name__}: {exc}", folder), model=manifest.id) from exc


def check_opens(folder: Path, manifest: Manifest, graphs: Graphs) -> None:
    """Open the pipeline of a shipped variant once, if its task has one, and close it.

    Raises:
        GpuxError: as :func:`open_staged`.
    """
    if not has_pipeline(manifest.task):
        return
    try:
        open_staged(folder, manifest, graphs).close()
    except GpuxError as exc:
        hint = exc.hint or "Its files are as the source has them: report this to the owner of the model."
        raise type(exc)(exc.message, hint=hint, **exc.details) from exc


def prove_staged(
    folder: Path,
    manifest: Manifest,
    graphs: Graphs,
    reference: Path,
    *,
    allow_inexact: bool = False,
    cancel: CancelToken | None = None,
) -> Proof:
    """The manifest's proof with that of the answers, whose cases are kept in the variant.

    Args:
        folder: of the staged variant.
        manifest: of the variant, with the proof of its graphs.
        graphs: of the variant; closed at the end, unless its task has no pipeline.
        reference: folder with the converter's answer cases.
        allow_inexact: mark a variant as inexact, in place of an error, if it cannot be opened or answers otherwise.
        cancel: checked between cases.

    Raises:
        ProofError: an answer differs.
        GpuxError: the pipeline cannot be opened.
        CancelledError: ``cancel`` was set.
    """
    proof = manifest.proof
    if not has_pipeline(manifest.task):
        reason = f"gpux has no pipeline for {manifest.task} yet"
        return replace(proof, answers=AnswerProof("not compared", reason=reason))
    answers = read_answers(reference)
    try:
        pipe = open_staged(folder, manifest, graphs)
    except CancelledError:
        raise
    except GpuxError as exc:
        return _unopened(proof, answers, exc, folder, allow_inexact=allow_inexact)
    with pipe:
        limit = proof.limit.length if proof.limit else None
        found, compared = prove_answers(answers, PipelineAnswerer(pipe), manifest.precision, limit=limit, cancel=cancel)
    return _proven(proof, manifest, answers, found, compared, folder, allow_inexact=allow_inexact)


def _proven(
    proof: Proof,
    manifest: Manifest,
    answers: AnswerSet | None,
    found: AnswerProof,
    compared: Comparison,
    folder: Path,
    *,
    allow_inexact: bool,
) -> Proof:
    if compared.differences and not allow_inexact:
        then = "nothing was stored"
        raise differs(manifest.id, compared.differences, found.reference, then=then, hint=_ALLOW)
    if answers is not None:
        keep_answers(answers, compared.compared, folder)
    return replace(proof, status="inexact" if compared.differences else proof.status, answers=found)


def _unopened(proof: Proof, answers: AnswerSet | None, exc: GpuxError, folder: Path, *, allow_inexact: bool) -> Proof:
    """The proof of a variant whose pipeline cannot be opened: that of its graphs, if the reference failed too."""
    versions = dict(answers.versions) if answers else {}
    if answers is None and not _has_tokenizer(folder):
        return replace(proof, answers=AnswerProof("not compared", reason=exc.message))
    if answers is not None and answers.failures and not any(case.kind in (ENCODE, CALL) for case in answers.cases):
        failures = "; ".join(f"the reference gives no {kind}: {why}" for kind, why in answers.failures.items())
        return replace(proof, answers=AnswerProof("not compared", 0, None, versions, f"{exc.message}; {failures}"))
    if not allow_inexact:
        hint = f"{exc.hint or ''} {_ALLOW}".strip()
        raise type(exc)(f"{exc.message}; nothing was stored", hint=hint, **exc.details) from exc
    return replace(proof, status="inexact", answers=AnswerProof("failed", 0, None, versions, exc.message))


def _has_tokenizer(folder: Path) -> bool:
    """Whether the repository has a file of a tokenizer; without one no reference library reads texts either."""
    return any(kind_by_name(file.path.name) == "tokenizer" for file in walk(folder))


def _not_opened(manifest: Manifest, reason: str, folder: Path) -> str:
    plain = reason.replace(f"{folder}{os.sep}", "").replace(str(folder), manifest.id)
    return f"the pipeline {manifest.task} of {manifest.id} cannot be opened: {plain}"
