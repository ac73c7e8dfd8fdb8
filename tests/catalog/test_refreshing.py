"""Refreshes: one request if nothing changed, a new description otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpux import Settings
from gpux.catalog import Catalog, import_model, import_models, record_use, refresh
from gpux.errors import ModelNotFoundError, NotStoredError, OfflineError, UsageError
from tests.catalog.repositories import COUNT, LLAMA, LLAMA_ID, MIXTRAL_ID, text, weights
from tests.hub import Fault, HubServer, add_repo

pytestmark = pytest.mark.hub


def test_one_request_if_nothing_changed(hub: HubServer, settings: Settings, catalog: Catalog) -> None:
    import_models([MIXTRAL_ID, "acme/small"], settings=settings)
    before = catalog.path.read_bytes()
    hub.clear_requests()
    found = refresh(settings=settings)
    assert [(one.reference, one.outcome, one.changes) for one in found] == [
        ("acme/small", "current", {}),
        (MIXTRAL_ID, "current", {}),
    ]
    assert len(hub.requests) == 2
    assert catalog.path.read_bytes() == before


def test_a_changed_model_is_described_again(hub: HubServer, root: Path, settings: Settings, catalog: Catalog) -> None:
    said = {"name": "one", "license": "mit"}
    first = import_models(["acme/small", MIXTRAL_ID], said, settings=settings)[0].record
    assert first is not None
    record_use("acme/small", settings=settings)
    config = text({**LLAMA, "max_position_embeddings": 4096})
    add_repo(root, "acme/small", {"config.json": config, "model.safetensors": weights("F32")}, likes=7)
    hub.clear_requests()
    small, mixtral = refresh(settings=settings)
    assert (small.outcome, mixtral.outcome) == ("changed", "current")
    assert small.changes["context_length"] == (131_072, 4096)
    assert small.changes["precision"] == ("F16", "F32")
    assert sum("/api/models/acme/small" in request.path for request in hub.requests) <= 2
    assert len(hub.requests) <= 5
    now = catalog.get("acme/small")
    assert (now.facts.context_length, now.facts.license, now.name, now.uses) == (4096, "mit", "one", 1)
    assert now.added == first.added
    assert now.commit != first.commit
    assert small.to_dict()["commit"] == now.commit


def test_downloads_and_likes_are_renewed_without_a_description(
    hub: HubServer, root: Path, settings: Settings, catalog: Catalog
) -> None:
    details = import_model(MIXTRAL_ID, settings=settings).details
    settings_of = {"downloads": 5000, "likes": 11}
    from tests.catalog.repositories import MIXTRAL

    add_repo(root, MIXTRAL_ID, {"config.json": text(MIXTRAL)}, **settings_of)
    hub.clear_requests()
    (found,) = refresh([MIXTRAL_ID], settings=settings)
    assert (found.outcome, found.changes) == ("current", {"downloads": (1000, 5000), "likes": (10, 11)})
    assert len(hub.requests) == 1
    assert (catalog.get(MIXTRAL_ID).facts.likes, catalog.get(MIXTRAL_ID).details) == (11, details)


def test_a_token_completes_a_gated_record(hub: HubServer, settings: Settings, catalog: Catalog) -> None:
    import_model(LLAMA_ID, settings=settings)
    hub.clear_requests()
    assert refresh(settings=settings)[0].outcome == "current"
    assert len(hub.requests) == 1  # without a token, the files are not requested again
    (found,) = refresh(settings=replace(settings, token="hf_good"))
    assert found.outcome == "changed"
    assert (catalog.get(LLAMA_ID).facts.parameters, catalog.get(LLAMA_ID).unknown.get("architecture")) == (
        COUNT,
        None,
    )


def test_gone_and_back(hub: HubServer, root: Path, settings: Settings, catalog: Catalog) -> None:
    import_models(["acme/small", MIXTRAL_ID], settings=settings)
    add_repo(root, "acme/small", {"config.json": text(LLAMA)}, private=True)
    found = {one.reference: one for one in refresh(settings=settings)}
    assert isinstance(found["acme/small"].error, ModelNotFoundError)
    assert (found["acme/small"].outcome, found[MIXTRAL_ID].outcome) == ("gone", "current")
    record = catalog.get("acme/small")
    assert (record.status, record.facts.parameters) == ("gone", COUNT)
    assert "no such model" in (record.reason or "")
    add_repo(root, "acme/small", {"config.json": text(LLAMA)}, private=False)
    refresh(settings=settings)
    assert (catalog.get("acme/small").status, catalog.get("acme/small").reason) == ("new", None)


def test_a_renamed_model_moves(hub: HubServer, root: Path, settings: Settings, catalog: Catalog) -> None:
    import_model("acme/small", {"name": "one"}, settings=settings)
    record_use("acme/small", settings=settings)
    (root / "models" / "acme" / "small").rename(root / "models" / "acme" / "renamed")
    add_repo(
        root, "acme/renamed", {"config.json": text(LLAMA), "model.safetensors": weights()}, renamed_from=("acme/small",)
    )
    (found,) = refresh(settings=settings)
    assert (found.outcome, found.reference) == ("changed", "acme/renamed")
    (record,) = catalog.records()
    assert (record.id, record.name, record.uses) == ("acme/renamed", "one", 1)
    assert catalog.get("acme/small").reference == "acme/renamed"


def test_a_model_renamed_to_an_existing_record(root: Path, settings: Settings, catalog: Catalog) -> None:
    import_model("acme/small", {"name": "one", "license": "mit"}, settings=settings)
    import_model("acme/odd", {"name": "two"}, settings=settings)
    for id in ("acme/small", "acme/odd"):
        record_use(id, settings=settings)
    (root / "models" / "acme" / "small").rename(root / "models" / "acme" / "set-aside")
    add_repo(root, "acme/odd", {"config.json": text(LLAMA)}, renamed_from=("acme/small",))
    refresh(settings=settings)
    (record,) = catalog.records()
    assert (record.reference, record.name, record.overrides["license"], record.uses) == ("acme/odd", "two", "mit", 2)


@pytest.mark.usefixtures("impatient")
def test_an_unreachable_source_is_unknown(hub: HubServer, settings: Settings, catalog: Catalog) -> None:
    import_models([MIXTRAL_ID, "acme/small"], settings=settings)
    offline = refresh(settings=replace(settings, offline=True))
    assert all(isinstance(one.error, OfflineError) and one.outcome == "unknown" for one in offline)
    other = refresh(settings=replace(settings, endpoint="http://127.0.0.1:9"))
    assert all(isinstance(one.error, UsageError) for one in other)
    hub.add_fault(Fault("status", status=500, path="acme/small", times=None))
    assert {one.outcome for one in refresh(settings=settings)} == {"current", "unknown"}
    assert {record.status for record in catalog.records()} == {"new"}
    with pytest.raises(NotStoredError):
        refresh(["acme/missing"], settings=settings)
    assert refresh(["acme/small"], settings=replace(settings, offline=True))[0].record.facts.parameters == COUNT


def test_an_empty_catalog(settings: Settings, catalog: Catalog) -> None:
    assert refresh(settings=settings) == []
    assert not catalog.path.exists()
