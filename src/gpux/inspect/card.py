"""The card of a model: what its authors and the Hub say of license, origin, results and safety. Pure.

Fields are those of the Hub's model card specification (``modelcard.md``) and of its ``model-index``; where the card is
not at hand, the tags that the Hub makes of it tell most of it (``license:mit``, ``base_model:quantized:org/name``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpux.errors import GpuxError
from gpux.inspect.formats import format_of
from gpux.inspect.headers.pickles import is_pickle
from gpux.model.info import ModelInfo
from gpux.model.page import ModelPage
from gpux.model.values import Value

Relation = Literal["quantized", "finetune", "adapter", "merge"]
RELATIONS: tuple[Relation, ...] = ("quantized", "finetune", "adapter", "merge")
DEPTH = 5  #: models of a chain, at most


@dataclass(frozen=True)
class BaseModel(Value):
    """A model that this one was made from."""

    id: str
    relation: Relation | None = None  #: None where nothing tells


@dataclass(frozen=True)
class Evaluation(Value):
    """One result of the ``model-index``; what it does not tell is None."""

    metric: str
    value: float | str | None
    task: str | None = None
    dataset: str | None = None  #: its name for people
    dataset_id: str | None = None
    config: str | None = None
    split: str | None = None
    verified: bool = False  #: the Hub ran it itself
    source: str | None = None


@dataclass(frozen=True)
class ScannedFile(Value):
    """A file that the Hub's scanners have something to say of."""

    path: str
    level: str  #: ``unsafe``, ``suspicious``, ``caution`` …
    imports: tuple[str, ...] = ()  #: what its pickle imports, those first that the Hub does not call innocuous


@dataclass(frozen=True)
class Security(Value):
    """What the scan of the files says, and what could run code."""

    status: Literal["safe", "issues", "pending", "unknown"] = "unknown"
    issues: tuple[ScannedFile, ...] = ()
    pickles: tuple[str, ...] = ()  #: files that execute code when they are loaded without care
    code: tuple[str, ...] = ()  #: Python that ``trust_remote_code`` would run


@dataclass(frozen=True)
class ModelCard(Value):
    """The card, as far as it is known."""

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
    """The card of a page: the card's own word first, then the tags'."""
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
    """The results of a ``model-index``, one for each metric; odd entries are left out."""
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
    """The same with what the scanners found in single files (path -> ``status``, ``pickle_import_scan``)."""
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
    """The models that a model goes back to, its own base first, and why the chain ends where it is cut.

    ``page`` is asked once for each of them, ``depth`` times at most; of several bases, the first is followed.
    """
    chain: list[BaseModel] = []
    seen: set[str] = set()
    while card.base_models:
        base = card.base_models[0]
        if base.id in seen:
            return tuple(chain), f"{base.id} goes back to itself"
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
    """Bases in the card's order; the tags have relations that the Hub worked out."""
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
    """Those first that the Hub does not call innocuous, with what it calls them."""
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
    """Tags of two or three letters are languages on the Hub, but for some formats and libraries."""
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
    """One text or a list of them; YAML makes ``no``, the language, a boolean."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(
        "no" if item is False else item for item in values if item is False or (isinstance(item, str) and item)
    )


def _value(value: Any) -> float | str | None:
    if isinstance(value, bool):
        return None
    return value if isinstance(value, (int, float, str)) else None
