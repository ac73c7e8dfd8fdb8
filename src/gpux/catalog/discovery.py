"""Models that a search finds, to be imported."""

from __future__ import annotations

from itertools import islice

from gpux.catalog.hub_tasks import task_named
from gpux.errors import UsageError
from gpux.huggingface.manager import PAGE, HuggingFaceManager
from gpux.huggingface.search import SearchQuery, Sort
from gpux.system.settings import Settings


def discover(
    text: str,
    *,
    sort: Sort = "trending",
    limit: int = 20,
    settings: Settings | None = None,
    manager: HuggingFaceManager | None = None,
) -> list[str]:
    """Ids of models for a task, where ``text`` is the name of one, else of those whose name holds it.

    A task for which nothing is found is looked for as part of a name too.

    Raises:
        UsageError: nothing to look for, or a limit below 1.
        OfflineError: offline.
        ManagerError: the Hub refuses; the subclass says why.
    """
    if not text.strip() or limit < 1:
        raise UsageError("a search needs a text and a limit of at least 1")
    hub = manager or HuggingFaceManager(settings)
    task = task_named(text)
    queries = [SearchQuery(task=task, sort=sort)] if task else []
    for query in (*queries, SearchQuery(text.strip(), sort=sort)):
        if found := list(islice(hub.iter_models(query, page=min(limit, PAGE)), limit)):
            return [info.id for info in found]
    return []
