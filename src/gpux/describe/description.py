"""Describes a model before it is pulled: architecture, parameter count, license, evaluation results.

Sources are the model's page, its configuration and, if the page does not report the parameter count, the headers of the
weights; no weights are downloaded. Unknown facts have a reason, contradictions a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from gpux.errors import EntryNotFoundError, GpuxError, UnavailableError, UnsupportedError
from gpux.inspect.architecture import ArchitectureSummary, summarize
from gpux.inspect.card import BaseModel, ModelCard, base_chain, card_of, with_scans
from gpux.inspect.configuration import FoundConfig, read_config
from gpux.inspect.headers.gguf_summary import GgufSummary, as_config
from gpux.inspect.headers.safetensors import SafetensorsSummary
from gpux.inspect.parameters import ParameterFacts, parameters_of
from gpux.inspect.reads import FileReads
from gpux.inspect.weight_headers import precision_notes, read_gguf, read_safetensors
from gpux.managers.base import ModelManager
from gpux.managers.info_cache import DatedInfo, InfoCachingManager
from gpux.managers.registry import manager_for
from gpux.model.info import ModelPage
from gpux.model.reference import ModelRef, Reference
from gpux.model.tasks import task_of_architectures
from gpux.model.values import Value
from gpux.system.cancel import CancelToken
from gpux.system.settings import Settings

#: Whether headers are read: if the page reports no parameter count, always, or never.
Headers = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class ModelDescription(Value):
    """The known facts of a model; the others are in ``unknown``."""

    known: DatedInfo  #: its page, when it was requested, and why it is not of this moment
    card: ModelCard
    architecture: ArchitectureSummary | None
    parameters: ParameterFacts
    config_path: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    safetensors: SafetensorsSummary | None = None  #: if the headers were read
    gguf: GgufSummary | None = None
    base_chain: tuple[BaseModel, ...] = ()  #: if ``chain`` was requested
    unknown: Mapping[str, str] = field(default_factory=dict)  #: fact -> why it is unknown
    notes: tuple[str, ...] = ()  #: contradictions and ambiguities


def describe_model(
    ref: Reference,
    *,
    revision: str | None = None,
    manager: ModelManager | None = None,
    settings: Settings | None = None,
    headers: Headers = "auto",
    chain: bool = False,
    scans: bool = False,
    cancel: CancelToken | None = None,
) -> ModelDescription:
    """Describe a model from its page, its configuration and, if necessary, the headers of its weights.

    Sends two requests if the page reports the parameter count, else at most two more per shard.

    Args:
        ref: any form that :meth:`ModelRef.parse` accepts; a reference to a file describes that file.
        revision: branch, tag, ``refs/pr/N`` or commit.
        manager: default: the manager of the reference's scheme.
        settings: default: those of the environment.
        headers: ``"auto"`` reads the headers of the weights if the page reports no parameter count, or if ``ref`` names
            a file.
        chain: follow the base models, with one request each.
        scans: get the scan results of pickle files, with one request if there are any.
        cancel: cancels the description.

    Raises:
        ModelNotFoundError: the model does not exist, or is not visible.
        RevisionNotFoundError: the model has no such revision.
        EntryNotFoundError: the model has no such file.
        OfflineError: offline, and nothing on this machine describes the model.
        ManagerError: the page is not available; later failures are in ``unknown``.
        CancelledError: ``cancel`` was set.
    """
    parsed = ModelRef.parse(ref).at(revision)
    manager = manager or manager_for(parsed.scheme, settings or Settings.from_env())
    page, known = _page(manager, parsed, cancel)
    if parsed.file is not None and page.info.file(parsed.file) is None:
        hint = f"See its files with `gpux info {parsed.id} --files`."
        raise EntryNotFoundError(
            f"{parsed.id} has no file {parsed.file!r}", hint=hint, model=parsed.id, file=parsed.file
        )
    described = _Describing(manager, page, parsed.file, headers, network=known.why is None).run()
    found = replace(described, known=replace(known, info=page.info))
    if scans:
        found = _scanned(found, manager)
    return _followed(found, manager, cancel) if chain else found


class _Describing:
    """The state of one description."""

    def __init__(
        self, manager: ModelManager, page: ModelPage, file: str | None, headers: Headers, *, network: bool
    ) -> None:
        self._manager = manager
        self._network = network  # False if the Hub did not answer the last request
        self._page = page
        self._file = file if file is not None or len(page.info.files) != 1 else page.info.files[0].path
        self._headers = headers
        self._unknown: dict[str, str] = {}
        self._notes: list[str] = []

    def run(self) -> ModelDescription:
        """The description without base chain and scan results."""
        info = self._page.info
        try:
            with self._manager.open_reads(info, network=self._network) as reads:
                return self._with_reads(reads)
        except UnsupportedError as exc:  # the manager has no ranged reads
            return self._put_together(FoundConfig(missing=exc.message), None, None)

    def _with_reads(self, reads: FileReads) -> ModelDescription:
        config = FoundConfig(missing="") if self._names_gguf() else read_config(reads, self._page.info)
        gguf = self._gguf(reads, config)
        if gguf is not None and gguf[1]:
            config = FoundConfig(config.path, gguf[1], notes=config.notes)
        headers = None if gguf else self._safetensors(reads, config.values)
        return self._put_together(config, headers, gguf[0] if gguf else None)

    def _put_together(
        self, config: FoundConfig, headers: SafetensorsSummary | None, gguf: GgufSummary | None
    ) -> ModelDescription:
        page, card = self._page, card_of(self._page)
        if gguf is not None and card.license is None:
            card = replace(card, license=gguf.license)
        if config.missing is not None:
            self._unknown["architecture"] = config.missing or self._unknown.get("headers", "")
        architecture = summarize(config.values) if config.values else None
        parameters = parameters_of(page, config.values, headers, gguf)
        if parameters.missing is not None:
            self._unknown["parameters"] = self._unknown.pop("headers", "") or parameters.missing
        self._notes += [*config.notes, *parameters.notes, *getattr(architecture, "notes", ())]
        self._notes += [*precision_notes(config.values, parameters.dtypes), *(gguf.notes if gguf else ())]
        self._name_missing(card)
        return ModelDescription(
            known=DatedInfo(page.info, None),
            card=card,
            architecture=architecture,
            parameters=parameters,
            config_path=config.path,
            config=config.values,
            safetensors=headers,
            gguf=gguf,
            unknown=self._unknown,
            notes=tuple(dict.fromkeys(self._notes)),
        )

    def _names_gguf(self) -> bool:
        return self._file is not None and self._file.lower().endswith(".gguf")

    def _gguf(self, reads: FileReads, config: FoundConfig) -> tuple[GgufSummary, Mapping[str, Any]] | None:
        """The GGUF header of the named file, else of the file to pull if there is no configuration."""
        wanted = "gguf" in self._page.info.formats and (config.missing is not None or self._headers == "always")
        if self._headers == "never" or not (self._names_gguf() or (wanted and self._file is None)):
            return None
        summary, first, why = read_gguf(reads, self._page.info, self._file)
        if summary is None or first is None:
            self._unknown["headers"] = why or ""
            return None
        return summary, as_config(first)

    def _safetensors(self, reads: FileReads, config: Mapping[str, Any]) -> SafetensorsSummary | None:
        known = bool(self._page.dtypes or self._page.info.parameters)
        named = self._file is not None and self._file.endswith(".safetensors")
        wanted = self._headers == "always" or named or not known
        if self._headers == "never" or not wanted or "safetensors" not in self._page.info.formats:
            return None
        quantization = config.get("quantization_config")
        bits = quantization.get("bits") if isinstance(quantization, dict) else None
        found, why = read_safetensors(reads, self._page.info, self._file, bits if isinstance(bits, int) else None)
        if why is not None:
            self._unknown["headers"] = why
        return found

    def _name_missing(self, card: ModelCard) -> None:
        page = self._page
        where = "the Hub reports none" if page.from_source else "the files on this machine state none"
        task = page.info.task or task_of_architectures(page.info.architectures)
        for name, value in (("license", card.license), ("task", task)):
            if not value:
                self._unknown[name] = where
        if page.info.scheme == "hf" and page.scan is None:
            self._unknown["scan"] = "the Hub reports none" if page.from_source else "no request was sent"
        if not page.info.files:
            self._unknown["files"] = "the model has no files"


def _page(manager: ModelManager, ref: ModelRef, cancel: CancelToken | None) -> tuple[ModelPage, DatedInfo]:
    """The current page, else the last known one."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if isinstance(manager, InfoCachingManager) and manager.settings.offline:
        known = manager.latest_model_info(ref)
        return _kept(manager, ref, known), known
    try:
        page = manager.page(ref, cancel=cancel)
    except UnavailableError as exc:
        kept = manager.cached_model_info(ref) if isinstance(manager, InfoCachingManager) else None
        if kept is None:
            raise
        known = replace(kept, why=exc.message)
        return ModelPage(known.info, from_source=False), known
    return page, DatedInfo(page.info, now)


def _kept(manager: ModelManager, ref: ModelRef, known: DatedInfo) -> ModelPage:
    """The last known page, with the card if the source cache has it."""
    try:
        cached = manager.page(ref)
    except UnavailableError:
        return ModelPage(known.info, from_source=False)
    same = cached.info.commit == known.info.commit
    return replace(cached, info=known.info) if same else ModelPage(known.info, from_source=False)


def _scanned(found: ModelDescription, manager: ModelManager) -> ModelDescription:
    """Add the scan results of pickles and of files with issues."""
    security = found.card.security
    paths = sorted({*security.pickles, *(issue.path for issue in security.issues)})
    ask = getattr(manager, "scans", None)
    if not paths or ask is None:
        return found
    try:
        scans = ask(found.known.info, paths)
    except GpuxError as exc:
        return replace(found, unknown={**found.unknown, "imports of pickles": exc.message})
    return replace(found, card=replace(found.card, security=with_scans(security, scans)))


def _followed(found: ModelDescription, manager: ModelManager, cancel: CancelToken | None) -> ModelDescription:
    chain, why = base_chain(found.card, lambda id: manager.page(id, cancel=cancel))
    unknown = {**found.unknown, "base chain": why} if why else found.unknown
    return replace(found, base_chain=chain, unknown=unknown)
