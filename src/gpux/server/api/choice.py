"""Which model answers a request that names none."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gpux.errors import UsageError
from gpux.model.tasks import canonical
from gpux.model.variant import StoredModel
from gpux.server.api.endpoint import Call

EMBEDDING = ("feature-extraction",)
SPARSE = ("fill-mask",)
CLASSIFIER = ("text-classification",)
#: Names in the message of an error at most.
_SHOWN = 8


def reads_texts(model: StoredModel) -> bool:
    """Whether a model for vectors reads texts, as those for pictures and sounds are stored for the same task."""
    return model.pipeline_task == canonical(model.task)


def ranks(model: StoredModel) -> bool:
    """Whether a classifier has one score for a pair of texts, as far as its graph says that."""
    return not any(isinstance(size, int) and size > 1 for size in _last_axes(model))


def classifies(model: StoredModel) -> bool:
    """Whether a classifier has several labels, as far as its graph says that."""
    return 1 not in _last_axes(model)


def _last_axes(model: StoredModel) -> list[int | str | None]:
    return [spec.shape[-1] for spec in model.manifest.graphs[0].outputs if spec.shape]


def chosen(
    call: Call,
    named: str | None,
    tasks: tuple[str, ...],
    *,
    fits: Callable[[StoredModel], bool] = lambda model: True,
) -> str:
    """The name of the model that answers.

    It is the one that the request names in its body or in ``?model=``, else the first of the server's ``tei_models``
    for the task, else the only loaded one, else the only stored one.

    Args:
        call: the request.
        named: in its body.
        tasks: that the path needs; empty: any.
        fits: whether a model of these tasks is one for the path.

    Raises:
        UsageError: there are several, or none.
    """
    if name := named or call.query.get("model"):
        return name
    core = call.core
    listed = [one for one in core.models.listing() if one.task in tasks or not tasks]
    listed = [one for one in listed if reads_texts(one.model) and fits(one.model)]
    for name in core.settings.tei_models:
        model = core.models.get(name)
        if model is not None and canonical(model.task) in tasks and reads_texts(model) and fits(model):
            return name
    paths = {one.model.path for one in listed}
    loaded = [one.name for one in core.models.loaded() if one.model.path in paths]
    # Precisions of one model are one choice: its name alone means the default one.
    names = loaded or [one.name for one in listed if one.default] or [one.name for one in listed]
    if len(names) == 1:
        return names[0]
    raise _undecided(names, tasks)


def _undecided(names: Iterable[str], tasks: tuple[str, ...]) -> UsageError:
    listed = sorted(names)
    of = f" of {' or '.join(tasks)}" if tasks else ""
    if not listed:
        return UsageError(
            f"no model{of} is stored that can answer this path",
            hint="Pull one: `gpux pull org/name`.",
            param="model",
            choice=True,
            stored=0,
        )
    more = "" if len(listed) <= _SHOWN else f" and {len(listed) - _SHOWN} more"
    return UsageError(
        f"{len(listed)} models{of} can answer: {', '.join(listed[:_SHOWN])}{more}",
        hint="Name one in the body or the query (?model=org/name), or start the server with --tei-model.",
        param="model",
        choice=True,
        stored=len(listed),
    )
