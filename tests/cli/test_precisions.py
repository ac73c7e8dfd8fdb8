"""References with a precision, `--precision` and the default of `gpux pin`, as a user types them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from gpux import HuggingFaceManager, Settings, Store, open_model, pipeline, plan_model, pull_model
from gpux.cli.main import run
from gpux.cli.references import complete
from gpux.errors import NotStoredError, UsageError
from tests.hub import HubServer
from tests.models.bert import bert_repository

pytestmark = pytest.mark.hub

Captured = pytest.CaptureFixture[str]
ID = "tiny/classify"


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.store)


@pytest.fixture
def two(store: Store, home: Path, pulled: Callable[[str, Path], None]) -> Store:
    """A store with the model in fp32 and int8."""
    pulled(f"{ID}:int8", home)
    return store


def answer(capsys: Captured, *args: str, code: int = 0) -> Any:
    """The one JSON document that the command prints."""
    capsys.readouterr()
    assert run([*args, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def stored(store: Store) -> list[str]:
    return sorted(model.manifest.precision for model in store.models())


def opened(capsys: Captured, settings: Settings, *args: str) -> str:
    """The precision of the variant that a run uses: the one that was used last."""
    store = Store(settings.store)
    for model in store.models():
        model.path.with_name(model.path.name + ".used").unlink(missing_ok=True)
    answer(capsys, "run", *args, "a text")
    (used,) = (model for model in store.models() if model.path.with_name(model.path.name + ".used").exists())
    return used.manifest.precision


def test_run_pulls_and_quantizes_what_the_reference_names(store: Store, capsys: Captured) -> None:
    assert len(answer(capsys, "run", f"{ID}:int8", "a text")) == 1
    assert stored(store) == ["fp32", "int8"]  # quantized from the repository's own fp32


def test_run_uses_the_variant_that_is_named(two: Store, settings: Settings, capsys: Captured, hub: HubServer) -> None:
    hub.clear_requests()
    for arguments, used in {
        (ID,): "fp32",
        (f"{ID}:int8",): "int8",
        (f"{ID}:Q8",): "int8",
        (f"hf:{ID}:fp32",): "fp32",
        (f"{ID}:latest",): "fp32",
        (ID, "--precision", "8bit"): "int8",
        (f"{ID}:int8", "--precision", "q8"): "int8",
    }.items():
        assert opened(capsys, settings, *arguments, "--offline") == used
    assert hub.requests == []


def test_a_bare_reference_runs_the_only_variant(two: Store, settings: Settings, capsys: Captured) -> None:
    assert run(["rm", f"{ID}:fp32", "--yes"]) == 0
    assert opened(capsys, settings, ID, "--offline") == "int8"
    assert stored(two) == ["int8"]


def test_the_default_is_chosen_marked_and_ended(two: Store, settings: Settings, capsys: Captured) -> None:
    def marked() -> list[str]:
        return [entry["precision"] for entry in answer(capsys, "list") if entry["default"]]

    assert marked() == ["fp32"]
    run(["list"])
    assert "fp32 *" in (shown := capsys.readouterr()).out and "gpux pin --default" in shown.err
    assert "fp32 shipped; int8 loss kl " in shown.out  # never "shipped" or "proven" alone
    assert answer(capsys, "pin", f"{ID}:int8", "--default") == [
        {"reference": f"{ID}:int8", "chosen": "int8", "precision": "int8"}
    ]
    assert marked() == ["int8"]
    assert [entry["pinned"] for entry in answer(capsys, "list")] == [False, False]
    assert opened(capsys, settings, ID) == "int8"
    assert opened(capsys, settings, f"{ID}:fp32") == "fp32"
    assert pipeline("text-classification", ID, settings=settings).model.manifest.precision == "int8"
    assert run(["unpin", ID, "--default"]) == 0
    assert capsys.readouterr().out.split("\t") == [ID, "fp32", "the most exact one stored\n"]
    assert marked() == ["fp32"] and opened(capsys, settings, ID) == "fp32"


def test_a_pull_follows_the_default(two: Store, settings: Settings, hub: HubServer) -> None:
    assert run(["pin", ID, "--precision", "int8", "--default"]) == 0
    assert run(["rm", f"{ID}:fp32", "--yes"]) == 0
    hub.clear_requests()
    assert pull_model(ID, settings=settings).manifest.precision == "int8"
    assert plan_model(ID, settings=settings).stored is not None
    assert HuggingFaceManager(settings).pull_model(ID).manifest.precision == "int8"
    assert stored(two) == ["int8"]
    assert not [request for request in hub.requests if "resolve" in request.path]
    assert pull_model(f"{ID}:fp32", settings=settings).manifest.precision == "fp32"
    assert open_model(ID, settings=settings).manifest.precision == "int8"


def test_the_removal_of_the_default_falls_back(two: Store, settings: Settings, capsys: Captured) -> None:
    run(["pin", f"{ID}:int8", "--default"])
    assert run(["rm", f"{ID}:int8", "--yes"]) == 0
    assert stored(two) == ["fp32"] and opened(capsys, settings, ID) == "fp32"
    assert pull_model(ID, settings=settings).manifest.precision == "fp32"
    assert [entry["default"] for entry in answer(capsys, "list") if entry["kind"] == "variant"] == [True]


def test_pin_default_names_what_can_be_chosen(two: Store, capsys: Captured) -> None:
    assert run(["pin", ID, "--default"]) == UsageError.exit_code
    hint = capsys.readouterr().err
    assert f"Name one: {ID}:fp32 or {ID}:int8." in hint
    found = re.search(r"Name one: (\S+)", hint)
    assert found is not None and run(["pin", found[1], "--default"]) == 0
    assert run(["pin", f"{ID}:int4", "--default"]) == NotStoredError.exit_code
    assert run(["pin", f"{ID}:int8", "--default", "--task", "fill-mask"]) == UsageError.exit_code
    capsys.readouterr()
    assert run(["unpin", f"{ID}:int8", "--default"]) == 0  # the choice is fp32
    assert capsys.readouterr().out.split("\t") == [ID, "fp32", "chosen\n"]


def test_pins_are_limited_to_the_precision(two: Store, capsys: Captured) -> None:
    assert [entry["precision"] for entry in answer(capsys, "pin", f"{ID}:int8")] == ["int8"]
    assert {entry["precision"]: entry["pinned"] for entry in answer(capsys, "list")} == {"fp32": False, "int8": True}
    assert [entry["precision"] for entry in answer(capsys, "unpin", ID, "--precision", "q8")] == ["int8"]


@pytest.mark.parametrize("arguments", [(f"{ID}:int8",), (ID, "--precision", "int8")])
@pytest.mark.parametrize("source", [False, True])
def test_rm_removes_the_variant_in_the_precision(
    two: Store, capsys: Captured, arguments: tuple[str, ...], source: bool
) -> None:
    options = ["--source"] if source else []
    assert run(["rm", *arguments, *options, "--dry-run"]) == 0 and stored(two) == ["fp32", "int8"]
    assert run(["rm", *arguments, *options, "--yes"]) == 0
    assert stored(two) == ["fp32"]
    assert run(["rm", *arguments, *options, "--yes"]) == NotStoredError.exit_code


def test_verify_checks_the_variant_in_the_precision(two: Store, capsys: Captured) -> None:
    def checked(*args: str, code: int = 0) -> list[str]:
        return [entry.get("precision", entry["kind"]) for entry in answer(capsys, "verify", *args, code=code)]

    assert sorted(checked(ID)) == ["fp32", "int8", "source"]
    assert checked(f"{ID}:int8") == checked("--precision", "q8") == checked(ID, "--precision", "int8") == ["int8"]
    assert checked(f"{ID}:int8", "--proof") == ["int8"]
    (int8,) = (model for model in two.models() if model.manifest.precision == "int8")
    (int8.path / "config.json").unlink()
    assert checked(f"{ID}:fp32") == checked("--precision", "fp32") == ["fp32"]
    assert checked(f"{ID}:int8", code=6) == checked("--precision", "int8", code=6) == ["int8"]
    (int8.path / "manifest.json").write_text("{")
    assert len(answer(capsys, "verify", f"{ID}:int8", code=6)) == 1
    assert len(answer(capsys, "verify", "--precision", "int8", code=6)) == 1
    assert checked(f"{ID}:fp32") == ["fp32"]
    assert answer(capsys, "verify", f"{ID}:int8", "--repair")[0]["repair"]["method"] == "rebuilt"
    assert checked(f"{ID}:int8") == ["int8"]
    assert run(["verify", ID, "--precision", "int5"]) == UsageError.exit_code


@pytest.mark.parametrize(
    "command",
    [
        ["run", f"{ID}:int4", "a", "--precision", "int8"],
        ["pull", f"{ID}:int4", "--precision", "int8"],
        ["pull", f"{ID}:int4", "tiny/embed", "--precision", "int8"],
        ["pull", f"{ID}:int4", "--precision", "int8", "--dry-run"],
        ["convert", f"{ID}:int4", "--precision", "int8"],
        ["convert", f"{ID}:int4", "--precision", "int8", "--explain"],
        ["chat", f"{ID}:int4", "--precision", "int8"],
        ["verify", f"{ID}:int4", "--precision", "int8"],
        ["rm", f"{ID}:int4", "--precision", "int8"],
        ["update", f"{ID}:int4", "--precision", "int8"],
        ["pin", f"{ID}:int4", "--precision", "int8", "--default"],
        ["info", f"{ID}:int4", "--fit", "--precision", "int8"],
    ],
    ids=" ".join,
)
def test_two_precisions_are_refused(command: list[str], capsys: Captured) -> None:
    assert run(command) == UsageError.exit_code
    assert f"{ID}:int4 names a precision, and precision='int8' is given too" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pull", "run", "chat", "convert", "update", "verify", "rm", "info", "pin"])
def test_an_unknown_precision_is_refused_with_the_nearest(command: str, capsys: Captured, hub: HubServer) -> None:
    assert run([command, f"{ID}:int7", *(["a"] if command == "run" else [])]) == 2
    remarks = capsys.readouterr().err
    assert "'int7' is not a precision" in remarks and "Did you mean int8?" in remarks
    assert hub.requests == []


def test_info_shows_the_variants_in_the_precision(two: Store, capsys: Captured) -> None:
    assert [found["precision"] for found in answer(capsys, "info", f"{ID}:int8")["stored"]] == ["int8"]
    assert len(answer(capsys, "info", ID)["stored"]) == 2
    assert [fit["precision"] for fit in answer(capsys, "info", f"{ID}:int8", "--fit")["fit"]] == ["int8"]
    assert answer(capsys, "info", f"{ID}:int8", "--files") == answer(capsys, "info", ID, "--files")
    assert answer(capsys, "revisions", f"{ID}:int8") == answer(capsys, "revisions", ID)
    assert [report["without_token"] for report in answer(capsys, "check", f"{ID}:int8")] == [True]


def test_plans_follow_the_reference(settings: Settings, capsys: Captured) -> None:
    for arguments in (("pull", f"{ID}:int8", "--dry-run"), ("convert", f"{ID}:q8", "--explain")):
        capsys.readouterr()
        run([*arguments, "--json"])
        assert json.loads(capsys.readouterr().out)["precision"] == "int8"
    assert plan_model(f"{ID}:auto", settings=settings, device="cpu").precision == "fp32"
    assert plan_model(ID, precision="auto", settings=settings, device="cpu").precision == "fp32"
    assert plan_model(ID, settings=settings).precision == "fp32"


def test_several_precisions_of_a_model_are_pulled_at_once(store: Store, capsys: Captured) -> None:
    found = answer(capsys, "pull", ID, f"{ID}:int8")
    assert [(outcome["ref"], outcome["model"]["precision"]) for outcome in found] == [
        (ID, "fp32"),
        (f"{ID}:int8", "int8"),
    ]
    assert stored(store) == ["fp32", "int8"]


def test_the_precision_of_files(settings: Settings, capsys: Captured) -> None:
    found = answer(capsys, "pull", "odd/gguf:q4", "--format", "gguf", "--dry-run", code=0)
    assert [file["path"] for file in found["files"] if file["path"].endswith("gguf")] == ["model-q4.gguf"]


def test_the_catalog_records_the_model_of_any_precision(settings: Settings, capsys: Captured) -> None:
    run(["import", f"{ID}:int8", "--name", "mine"])
    for name in (ID, f"{ID}:int8", f"hf:{ID}:q4", "mine", "mine:int8"):
        assert answer(capsys, "catalog", "show", name)["reference"] == ID
    assert run(["import", f"{ID}:int4"]) == 0
    assert [record["reference"] for record in answer(capsys, "catalog", "list")] == [ID]


def test_a_job_pulls_the_precision(store: Store, capsys: Captured) -> None:
    job = answer(capsys, "pull", "--detach", ID, "--precision", "q8")
    assert job["models"] == [f"{ID}:int8"]
    assert answer(capsys, "jobs", "follow", job["id"])["precision"] == "int8"
    assert stored(store) == ["fp32", "int8"]


def test_offline_the_hint_leads_to_the_precision(hub: HubServer, store: Store, capsys: Captured) -> None:
    assert run(["run", f"{ID}:int8", "a", "--offline"]) != 0
    found = re.search(r"`(gpux pull [^`]+)`", capsys.readouterr().err)
    assert found is not None and run(found[1].split()[1:]) == 0
    hub.clear_requests()
    assert run(["run", f"{ID}:int8", "a", "--offline"]) == 0
    assert stored(store) == ["fp32", "int8"] and hub.requests == []


# Completion


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["run", "tiny/c"], {ID}),
        (["run", f"{ID}:i"], {"int8", "int4"}),
        (["run", f"{ID}:"], {"fp32", "fp16", "int8", "int4", "auto"}),
        (["rm", "org/other", f"{ID}@v1:f"], {"fp32", "fp16"}),
        (["run", f"hf:{ID}:fp3"], {"fp32"}),
        (["pull", "org/unknown:au"], {"auto"}),
        (["run", "none"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",  # a set has no order that two workers share
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_references(two: Store, words: list[str], found: set[str]) -> None:
    """Bash splits words at colons and replaces only what follows the last one."""
    split = [part for word in ("gpux", *words) for part in re.split("(:)", word) if part]
    script = str(Path(sys.executable).with_name("gpux"))
    lines = f"""
    eval "$({script} completion bash)"
    gpux() {{ {script} "$@"; }}
    COMP_WORDS=({" ".join(split)}) COMP_CWORD={len(split) - 1}
    _gpux_completion {script}
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == found


def test_other_shells_complete_whole_references(two: Store) -> None:
    context = click.Context(click.Command("run"))
    parameter = click.Argument(["ref"])
    assert [item.value for item in complete(context, parameter, f"{ID}:int")] == [f"{ID}:int8", f"{ID}:int4"]
    assert [item.type for item in complete(context, parameter, "./fol")] == ["file"]
    assert [item.value for item in complete(context, parameter, "./folder:int4")] == ["./folder:int4"]


# Python


def test_pipeline_and_open_model_take_a_precision(two: Store, settings: Settings) -> None:
    for reference, options in ((f"{ID}:int8", {}), (ID, {"precision": "q8"}), (f"{ID}:q8", {"precision": "int8"})):
        assert open_model(reference, settings=settings, **options).manifest.precision == "int8"
        with pipeline("text-classification", reference, settings=settings, **options) as pipe:
            assert pipe.model.manifest.precision == "int8"
        assert pull_model(reference, settings=settings, **options).manifest.precision == "int8"
        assert HuggingFaceManager(settings).pull_model(reference, **options).manifest.precision == "int8"
    assert open_model(f"{ID}:auto", settings=settings).manifest.precision == "fp32"
    with pytest.raises(UsageError, match="names a precision"):
        pipeline("text-classification", f"{ID}:int8", precision="fp32", settings=settings)
    with pytest.raises(UsageError, match="no precision 'int5'"):
        open_model(ID, precision="int5", settings=settings)


def test_a_stored_model_has_its_precision(two: Store, settings: Settings) -> None:
    model = open_model(f"{ID}:int8", settings=settings)
    pipeline(model=model, precision="q8", settings=settings).close()
    with pytest.raises(UsageError, match="stored in int8 here, not in fp32") as caught:
        pipeline(model=model, precision="fp32", settings=settings)
    found = re.search(r'model="([^"]+)"', str(caught.value.hint))
    assert found is not None and open_model(found[1], settings=settings).manifest.precision == "fp32"


def test_a_folder_takes_a_precision(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bert_repository(tmp_path / "model", "text-classification", onnx=True)
    assert open_model("./model:int8", settings=settings).manifest.precision == "int8"
    assert open_model(Path("model"), precision="int8", settings=settings).manifest.precision == "int8"
    store = Store(settings.store)
    assert open_model("./model", settings=settings).manifest.precision == "fp32"
    store.removal_plan([model for model in store.models() if model.manifest.precision == "fp32"]).execute()
    assert open_model("./model", settings=settings).manifest.precision == "int8"
