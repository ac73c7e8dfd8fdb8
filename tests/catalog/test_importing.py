"""Imports from the loopback Hub: content of records, updates, errors."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from gpux import Settings, pull_model
from gpux.catalog import Catalog, discover, import_model, import_models
from gpux.errors import (
    CorruptFileError,
    InvalidReferenceError,
    ModelNotFoundError,
    NotStoredError,
    NotWritableError,
    OfflineError,
    RateLimitError,
    UsageError,
)
from tests.catalog.repositories import COUNT, LLAMA, LLAMA_ID, MIXTRAL_ID, text, weights
from tests.hub import Fault, HubServer, add_repo
from tests.models.bert import bert_repository

pytestmark = pytest.mark.hub


def test_a_record_from_a_configuration_alone(hub: HubServer, settings: Settings, catalog: Catalog) -> None:
    record = import_model(MIXTRAL_ID, settings=settings)
    facts = record.facts
    assert (facts.parameters, facts.parameters_basis) == (46_702_792_704, "config by formula")
    assert 12.8e9 < (facts.active_parameters or 0) < 13e9
    assert (facts.experts, facts.active_experts, facts.kv_heads, facts.attention) == (8, 2, 8, "GQA")
    assert (facts.context_length, facts.precision, facts.task) == (32_768, "bfloat16", "text-generation")
    assert (facts.license, facts.languages, facts.downloads) == ("apache-2.0", ("fr", "en"), 1000)
    assert (record.status, record.uses, record.last_used, record.endpoint) == ("new", 0, None, hub.url)
    assert len(record.commit) == 40
    assert len(hub.requests) <= 3
    assert catalog.get(MIXTRAL_ID) == record
    assert catalog.records() == [replace(record, details={})]
    assert pickle.loads(pickle.dumps(record)) == record
    assert json.loads(json.dumps(record.to_dict()))["details"]["config"]["num_local_experts"] == 8


def test_overrides_are_kept_and_removed(settings: Settings) -> None:
    said = {"params": "47B", "name": "mix", "description": "two\nlines", "defaults": {"temperature": 0.5}}
    first = import_model(MIXTRAL_ID, said, settings=settings)
    assert (first.facts.parameters, first.facts.parameters_basis) == (47_000_000_000, "override")
    again = import_model(MIXTRAL_ID, {"context": 65_536, "description": None}, settings=settings)
    assert again.overrides == {
        "name": "mix", "defaults": {"temperature": 0.5}, "parameters": 47_000_000_000, "context_length": 65_536,
    }  # fmt: skip
    assert (again.added, again.reported.parameters) == (first.added, 46_702_792_704)
    assert again.to_dict()["overridden"] == {"parameters": 46_702_792_704, "context_length": 32_768}


def test_invalid_overrides_send_no_request(hub: HubServer, settings: Settings, catalog: Catalog) -> None:
    for overrides in ({"contxt": 1}, {"params": 0}):
        with pytest.raises(UsageError):
            import_model(MIXTRAL_ID, overrides, settings=settings)
    assert hub.requests == []
    assert not catalog.path.exists()


def test_dry_run_writes_nothing(settings: Settings, catalog: Catalog) -> None:
    record = import_model("acme/small", {"name": "one"}, settings=settings, dry_run=True)
    assert (record.name, record.facts.parameters) == ("one", COUNT)
    assert not catalog.path.exists()
    import_model("acme/small", {"name": "two"}, settings=settings)
    assert import_model("acme/small", {"params": "7M"}, settings=settings, dry_run=True).name == "two"
    assert catalog.get("acme/small").facts.parameters == COUNT


def test_a_gated_model_is_recorded_with_the_missing_token(hub: HubServer, settings: Settings) -> None:
    record = import_model(LLAMA_ID, settings=settings)
    assert (record.facts.gated, record.facts.license, record.partial) == ("manual", "llama3.2", True)
    assert record.facts.parameters == 1_000_000_000  # in its name
    why = record.unknown["architecture"]
    assert f"{LLAMA_ID} is gated and no token was sent" in why
    assert "`gpux auth login` or set HF_TOKEN" in why
    whole = import_model(LLAMA_ID, settings=replace(settings, token="hf_good"))
    assert (whole.facts.parameters, whole.facts.context_length, whole.partial) == (COUNT, 131_072, False)
    assert "hf_good" not in json.dumps(whole.to_dict())


def test_an_unknown_model_is_a_typed_error(settings: Settings, catalog: Catalog) -> None:
    for ref in ("acme/private", "acme/missing"):
        with pytest.raises(ModelNotFoundError):
            import_model(ref, settings=settings)
    assert not catalog.path.exists()


def test_odd_configurations_give_valid_records(settings: Settings, catalog: Catalog) -> None:
    for ref in ("acme/odd", "acme/escapes"):
        record = import_model(ref, settings=settings)
        assert (record.facts.hidden_size, record.facts.vocab_size) == (None, None)
        assert "\x1b" not in str(record.facts)
        assert catalog.get(ref).facts == record.facts
        json.dumps(catalog.get(ref).to_dict(), ensure_ascii=False).encode()


def test_names_of_a_record(settings: Settings, catalog: Catalog) -> None:
    record = import_model("small", {"name": "my favourite"}, settings=settings)
    assert record.id == "acme/small"
    for name in ("small", "acme/small", "hf:acme/small", "my favourite", " acme/small "):
        assert catalog.get(name).reference == "acme/small"
    with pytest.raises(NotStoredError, match="no record of 'acme/smal'") as caught:
        catalog.get("acme/smal")
    assert caught.value.hint == "Did you mean 'acme/small'?"


def test_one_model_at_two_revisions_has_two_records(settings: Settings, catalog: Catalog) -> None:
    commit = import_model("acme/small", settings=settings).commit
    pinned = import_model(f"acme/small@{commit}", settings=settings)
    assert (pinned.reference, pinned.commit) == (f"acme/small@{commit}", commit)
    assert catalog.get("acme/small").revision is None
    assert catalog.get(pinned.reference).revision == commit
    with pytest.raises(UsageError, match="several records"):
        catalog.get("small" if catalog.remove(["acme/small"]) and not import_model(
            "acme/small@main", settings=settings) else "acme/small")  # fmt: skip


def test_a_file_is_a_record_of_its_own(settings: Settings, catalog: Catalog) -> None:
    record = import_model("acme/small/model.safetensors", settings=settings)
    assert (record.reference, record.file) == ("acme/small/model.safetensors", "model.safetensors")
    assert catalog.get("acme/small/model.safetensors").reference == record.reference


def test_a_local_folder(tmp_path: Path, settings: Settings, catalog: Catalog) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_bytes(text(LLAMA))
    (folder / "model.safetensors").write_bytes(weights())
    record = import_model(folder, settings=settings)
    assert (record.reference, record.scheme, record.facts.parameters) == (str(folder), "local", COUNT)
    assert catalog.get(str(folder)).facts.context_length == 131_072


def test_a_stored_model_has_the_status_pulled(hub: HubServer, root: Path, tmp_path: Path, settings: Settings) -> None:
    from tests.hub import folder_files

    files = folder_files(bert_repository(tmp_path / "bert", "text-classification", onnx=True))
    add_repo(root, "tiny/classify", files)
    pull_model("tiny/classify", settings=settings)
    assert import_model("tiny/classify", settings=settings).status == "pulled"


def test_offline_uses_the_last_answer(hub: HubServer, settings: Settings) -> None:
    offline = replace(settings, offline=True)
    with pytest.raises(OfflineError):
        import_model(MIXTRAL_ID, settings=offline)
    import_model(MIXTRAL_ID, settings=settings)
    hub.clear_requests()
    record = import_model(MIXTRAL_ID, {"name": "mix"}, settings=offline)
    assert (record.name, record.partial, hub.requests) == ("mix", True, [])
    assert "offline; these are the last known facts" in record.notes


def test_a_list_with_bad_lines(settings: Settings, catalog: Catalog) -> None:
    refs = [MIXTRAL_ID, "no reference!", "acme/missing", "acme/small", "datasets/a/b", MIXTRAL_ID]
    outcomes = import_models(refs, settings=settings)
    assert [outcome.reference for outcome in outcomes] == refs[:-1]
    assert [outcome.action for outcome in outcomes] == ["added", None, None, "added", None]
    assert isinstance(outcomes[1].error, InvalidReferenceError)
    assert isinstance(outcomes[2].error, ModelNotFoundError)
    assert [record.reference for record in catalog.records()] == ["acme/small", MIXTRAL_ID]
    again = import_models([MIXTRAL_ID], settings=settings)[0]
    assert again.action == "unchanged"
    assert json.loads(json.dumps(again.to_dict()))["record"]["id"] == MIXTRAL_ID
    assert import_models([MIXTRAL_ID], {"name": "x"}, settings=settings)[0].action == "updated"


@pytest.mark.usefixtures("impatient")
def test_a_rate_limit_stops_requests(hub: HubServer, settings: Settings) -> None:
    hub.add_fault(Fault("status", status=429, times=None))
    outcomes = import_models([f"acme/m{number}" for number in range(40)], settings=settings)
    assert all(isinstance(outcome.error, RateLimitError) for outcome in outcomes)
    assert len({request.path for request in hub.requests}) < 40  # requests are repeated; later models make none


def test_discovery(hub: HubServer, settings: Settings) -> None:
    assert set(discover("text-generation", settings=settings)) == {MIXTRAL_ID, "acme/small"}
    assert discover("Text Classification", settings=settings) == ["acme/classifier"]
    assert discover("sentiment-analysis", settings=settings) == ["acme/classifier"]
    assert discover("text-ranking", settings=settings) == ["acme/text-ranking-ish"]  # no model has this task
    assert discover("mixtral", settings=settings) == [MIXTRAL_ID]
    assert discover("nothing-of-that-name", settings=settings) == []
    assert discover("acme", sort="downloads", limit=1, settings=settings) == ["acme/classifier"]
    with pytest.raises(UsageError):
        discover(" ", settings=settings)


@pytest.mark.parametrize(
    "content", [b"no database at all, and long enough to be read as one" * 20, b"SQLite format 3\0"]
)
def test_a_damaged_catalog(content: bytes, settings: Settings, catalog: Catalog) -> None:
    settings.home.mkdir(parents=True)
    catalog.path.write_bytes(content)
    with pytest.raises(CorruptFileError):
        catalog.records()
    with pytest.raises(CorruptFileError):
        import_model("acme/small", settings=settings)
    assert catalog.path.read_bytes() == content


def test_a_catalog_that_cannot_be_created(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "catalogue.db", tmp_path):
        with pytest.raises(NotWritableError):
            import_model("acme/small", settings=settings, catalog=path)
