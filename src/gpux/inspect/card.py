"""The model card: license, base models, evaluation results and security scan. Pure.

Fields follow the Hub's model card specification (``modelcard.md``) and its ``model-index``. Without a card, most
of them are in the tags that the Hub derives from it (``license:mit``, ``base_model:quantized:org/name``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpux.errors import GpuxError
from gpux.inspect.formats import format_of
from gpux.inspect.headers.pickles import is_pickle
from gpux.model.info import ModelInfo, ModelPage
from gpux.model.values import Value

Relation = Literal["quantized", "finetune", "adapter", "merge"]
RELATIONS: tuple[Relation, ...] = ("quantized", "finetune", "adapter", "merge")
DEPTH = 5  #: maximum length of a chain


@dataclass(frozen=True)
class BaseModel(Value):
    """A model from which this model was derived."""

    id: str
    relation: Relation | None = None  #: None if not stated


@dataclass(frozen=True)
class Evaluation(Value):
    """One result of the ``model-index``; None means not stated."""

    metric: str
    value: float | str | None
    task: str | None = None
    dataset: str | None = None  #: display name
    dataset_id: str | None = None
    config: str | None = None
    split: str | None = None
    verified: bool = False  #: by the Hub
    source: str | None = None


@dataclass(frozen=True)
class ScannedFile(Value):
    """A file with findings of the Hub's scanners."""

    path: str
    level: str  #: ``unsafe``, ``suspicious``, ``caution`` …
    imports: tuple[str, ...] = ()  #: imports of its pickle, those not rated innocuous first


@dataclass(frozen=True)
class Security(Value):
    """Results of the Hub's scan, and files that could run code."""

    status: Literal["safe", "issues", "pending", "unknown"] = "unknown"
    issues: tuple[ScannedFile, ...] = ()
    pickles: tuple[str, ...] = ()  #: files that may execute code when loaded
    code: tuple[str, ...] = ()  #: Python files that ``trust_remote_code`` would run


@dataclass(frozen=True)
class ModelCard(Value):
    """The model card; None or empty means not stated."""

    license: str | None = None
    license_name: str | None = None  #: of a license that is "other"
    license_link: str | None = None
    languages: tuple[str, ...] = ()
    base_models: tuple[BaseModel, ...] = ()
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    library: str | None = None
    pipeline_tag: str | None = None
    tags: tuple[str, ...] = ()
    gated: Literal["auto", "manual"] | None = None
    security: Security = field(default_factory=Security)
    downloads: int | None = None
    downloads_all_time: int | None = None
    likes: int | None = None
    created: str | None = None
    updated: str | None = None
    papers: tuple[str, ...] = ()  #: arXiv ids


def card_of(page: ModelPage) -> ModelCard:
    """The card of a page; the card's own fields take precedence over tags."""
    info, card = page.info, page.card
    return ModelCard(
        license=info.license or next(_tagged(info, "license"), None),
        license_name=_text(card.get("license_name")),
        license_link=_text(card.get("license_link")),
        languages=_texts(card.get("language")) or _tag_languages(info),
        base_models=_base_models(page),
        datasets=_texts(card.get("datasets")) or tuple(_tagged(info, "dataset")),
        metrics=_texts(card.get("metrics")),
        evaluations=tuple(evaluations(page.results or _items(card.get("model-index")))),
        library=info.library,
        pipeline_tag=info.task,
        tags=info.tags,
        gated=info.gated,
        security=_security(page),
        downloads=info.downloads,
        downloads_all_time=page.downloads_all_time,
        likes=info.likes,
        created=page.created,
        updated=info.last_modified,
        papers=tuple(_tagged(info, "arxiv")),
    )


def evaluations(index: Iterable[Mapping[str, Any]]) -> Iterator[Evaluation]:
    """The results of a ``model-index``, one per metric; invalid entries are omitted."""
    for model in index:
        for result in _items(model.get("results")):
            task, dataset, source = (_mapping(result.get(name)) for name in ("task", "dataset", "source"))
            for metric in _items(result.get("metrics")):
                if (name := _text(metric.get("name")) or _text(metric.get("type"))) is not None:
                    yield Evaluation(
                        metric=name,
                        value=_value(metric.get("value")),
                        task=_text(task.get("name")) or _text(task.get("type")),
                        dataset=_text(dataset.get("name")) or _text(dataset.get("type")),
                        dataset_id=_text(dataset.get("type")),
                        config=_text(dataset.get("config")),
                        split=_text(dataset.get("split")),
                        verified=metric.get("verified") is True,
                        source=_text(source.get("url")) or _text(source.get("name")),
                    )


def with_scans(security: Security, scans: Mapping[str, Mapping[str, Any]]) -> Security:
    """Add the scan results of files (path -> ``status``, ``pickle_import_scan``)."""
    levels = {issue.path: issue.level for issue in security.issues}
    found = [
        ScannedFile(path, levels.pop(path, _text(scan.get("status")) or "unscanned"), tuple(_imports(scan)))
        for path, scan in sorted(scans.items())
    ]
    rest = [issue for issue in security.issues if issue.path in levels]
    return Security(security.status, (*found, *rest), security.pickles, security.code)


def base_chain(
    card: ModelCard, page: Callable[[str], ModelPage], depth: int = DEPTH
) -> tuple[tuple[BaseModel, ...], str | None]:
    """The base model, its base model and so on, and why the chain is incomplete.

    ``page`` is called once per model, at most ``depth`` times; of several base models, the first is followed.
    """
    chain: list[BaseModel] = []
    seen: set[str] = set()
    while card.base_models:
        base = card.base_models[0]
        if base.id in seen:
            return tuple(chain), f"{base.id} is its own base model"
        chain.append(base)
        seen.add(base.id)
        if len(chain) == depth:
            return tuple(chain), None
        try:
            card = card_of(page(base.id))
        except GpuxError as exc:
            return tuple(chain), exc.message
    return tuple(chain), None


def _base_models(page: ModelPage) -> tuple[BaseModel, ...]:
    """Base models in the order of the card, with the relations in the tags, which the Hub determines."""
    relations: dict[str, Relation] = {}
    tagged = []
    for value in _tagged(page.info, "base_model"):
        kind, _, id = value.partition(":")
        known = next((relation for relation in RELATIONS if relation == kind), None)
        if known is not None and id:
            relations[id] = known
        tagged.append(id if known is not None else value)
    said = next((name for name in RELATIONS if name == page.card.get("base_model_relation")), None)
    names = _texts(page.card.get("base_model")) or tuple(dict.fromkeys(tagged))
    guess: Relation | None = said or ("merge" if len(names) > 1 and "merge" in page.info.tags else None)
    return tuple(BaseModel(name, relations.get(name, guess)) for name in names)


def _security(page: ModelPage) -> Security:
    paths = [file.path for file in page.info.files]
    pickles = tuple(path for path in paths if is_pickle(path) and (format_of(path) or not path.endswith(".bin")))
    code = tuple(path for path in paths if path.endswith(".py") and "/" not in path)
    if page.scan is None:
        return Security("unknown", (), pickles, code)
    issues = tuple(
        ScannedFile(path, _text(issue.get("level")) or "unsafe")
        for issue in _items(page.scan.get("filesWithIssues"))
        if (path := _text(issue.get("path")))
    )
    status: Literal["safe", "issues", "pending"] = "issues" if issues else "safe"
    if not issues and page.scan.get("scansDone") is not True:
        status = "pending"
    return Security(status, issues, pickles, code)


def _imports(scan: Mapping[str, Any]) -> Iterator[str]:
    """Imports not rated innocuous, with their rating, then the innocuous ones."""
    result = _mapping(scan.get("pickle_import_scan") or scan.get("pickleImportScan"))
    found = [
        (str(item.get("safety", "unknown")), f"{item.get('module')}.{item.get('name')}")
        for item in _items(result.get("pickleImports"))
    ]
    yield from (f"{name} ({safety})" for safety, name in found if safety != "innocuous")
    yield from (name for safety, name in found if safety == "innocuous")


def _tagged(info: ModelInfo, kind: str) -> Iterator[str]:
    return (tag.partition(":")[2] for tag in info.tags if tag.startswith(f"{kind}:"))


def _tag_languages(info: ModelInfo) -> tuple[str, ...]:
    """Tags of two or three letters are languages, except some formats and libraries."""
    others = {"tf", "jax", "pt", "ort", "mlx", "rl", "art", "moe", "rag", "vae", "nlp"}
    return tuple(
        tag for tag in info.tags if len(tag) in (2, 3) and tag.isalpha() and tag.islower() and tag not in others
    )


def _items(value: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, (list, tuple)) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: Any) -> tuple[str, ...]:
    """A string or a list of strings; YAML reads ``no`` (Norwegian) as a boolean."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(
        "no" if item is False else item for item in values if item is False or (isinstance(item, str) and item)
    )


def _value(value: Any) -> float | str | None:
    if isinstance(value, bool):
        return None
    return value if isinstance(value, (int, float, str)) else None
