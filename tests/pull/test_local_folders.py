"""Folders on this machine as users have them: links, spaces, caches, files that change, damaged weights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpux import Settings, errors, plan_model, pull_model
from gpux.cli.main import run
from gpux.convert.base import ConversionReport, ConversionRequest
from gpux.managers.local import LocalManager
from tests.hub import HubServer
from tests.models.bert import bert_repository
from tests.pull.conftest import Make, Stub


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return bert_repository(tmp_path / "shipped", "fill-mask", onnx=True)


def as_is(folder: Path) -> str:
    return str(folder)


def with_slash(folder: Path) -> str:
    return f"{folder}/"


def relative(folder: Path) -> str:
    os.chdir(folder.parent)
    return f"./{folder.name}"


def above(folder: Path) -> str:
    os.chdir(folder)
    return "."


def in_home(folder: Path) -> str:
    os.environ["HOME"] = str(folder.parent)
    return f"~/{folder.name}"


def with_spaces(folder: Path) -> str:
    return str(folder.rename(folder.parent / "my model, größe 1"))


def linked(folder: Path) -> str:
    (folder.parent / "link").symlink_to(folder)
    return str(folder.parent / "link")


def linked_files(folder: Path) -> str:
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.rglob("*.*"))):
        if file.is_file():
            file.rename(blobs / str(number))
            file.symlink_to(blobs / str(number))
    return str(folder)


def linked_folder_inside(folder: Path) -> str:
    (folder / "onnx").rename(folder.parent / "graphs")
    (folder / "onnx").symlink_to(folder.parent / "graphs")
    (folder / "onnx" / "up").symlink_to(folder)  # a circle
    return str(folder)


def cache(folder: Path) -> str:
    return str(snapshot(folder).parents[1])


def cache_snapshot(folder: Path) -> str:
    return str(snapshot(folder))


def snapshot(folder: Path, commit: str = "c" * 40) -> Path:
    """The folder as a snapshot of a Hugging Face cache."""
    repository = folder.parent / "models--acme--tiny"
    target = repository / "snapshots" / commit
    for file in folder.rglob("*"):
        if file.is_file():
            blob = repository / "blobs" / f"{commit}-{file.relative_to(folder).as_posix().replace('/', '-')}"
            blob.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, blob)
            link = target / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return target


@pytest.mark.parametrize(
    "arrange",
    [
        *(as_is, with_slash, relative, above, in_home, with_spaces),
        *(linked, linked_files, linked_folder_inside, cache, cache_snapshot),
    ],
)
def test_every_path_to_a_folder_is_pulled(
    shipped: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, arrange: Any
) -> None:
    monkeypatch.setenv("HOME", os.environ.get("HOME", "/"))
    monkeypatch.chdir(Path.cwd())

    model = pull_model(arrange(shipped), settings=settings)

    assert (model.task, model.manifest.recipe) == ("fill-mask", "shipped")
    assert {file.path for file in model.manifest.files} >= {"model.onnx", "tokenizer.json", "config.json"}
    assert not any(file.is_symlink() for file in model.path.rglob("*"))


def test_a_cache_with_several_snapshots(shipped: Path, settings: Settings) -> None:
    first, second = snapshot(shipped, "a" * 40), snapshot(shipped, "b" * 40)
    repository = first.parents[1]

    assert LocalManager(settings).resolve(str(repository)).id == str(second)  # refs/main
    (repository / "refs" / "main").unlink()
    with pytest.raises(errors.ModelNotFoundError, match="has 2 snapshots") as caught:
        LocalManager(settings).resolve(str(repository))
    assert str(first) in (caught.value.hint or "")
    assert LocalManager(settings).resolve(str(first)).id == str(first)


def test_a_link_that_leads_nowhere_is_named(shipped: Path, settings: Settings) -> None:
    (shipped / "model.safetensors").unlink()
    (shipped / "model.safetensors").symlink_to("/nowhere/at/all")

    with pytest.raises(errors.ModelNotFoundError, match="is a link to /nowhere/at/all") as caught:
        pull_model(shipped, settings=settings)
    assert "remove the link" in (caught.value.hint or "")
    (shipped / "model.safetensors").unlink()

    assert pull_model(shipped, settings=settings).task == "fill-mask"


def test_the_home_of_a_user_who_does_not_exist(settings: Settings) -> None:
    with pytest.raises(errors.ModelNotFoundError, match="~nobody-of-that-name"):
        pull_model("~nobody-of-that-name/model", settings=settings)


def test_a_folder_that_changes_during_the_pull_is_not_stored(
    folder: Path, settings: Settings, stubs: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs(a={})
    original = Stub._convert

    def edited(self: Stub, request: ConversionRequest, *rest: Any) -> ConversionReport:
        (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
        return original(self, request, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Stub, "_convert", edited)
        with pytest.raises(errors.CorruptFileError, match="changed while the model was pulled") as caught:
            pull_model(folder, settings=settings)
    assert "again" in (caught.value.hint or "")
    assert not list(settings.store.rglob("manifest.json"))

    assert pull_model(folder, settings=settings).manifest.recipe.converter == "a"


@pytest.mark.parametrize(
    "hint", ["The weights cannot be read: pull the model again with `gpux pull --force`.", "Other."]
)
def test_the_hint_for_damaged_weights_of_a_folder_helps(
    folder: Path, settings: Settings, stubs: Make, hint: str, tmp_path: Path
) -> None:
    whole = shutil.copytree(folder, tmp_path / "whole")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    made = stubs(a={"fails": errors.CorruptFileError("model.safetensors is cut", hint=hint)})

    with pytest.raises(errors.CorruptFileError) as caught:
        pull_model(folder, settings=settings)
    if hint == "Other.":
        assert caught.value.hint == hint
        return
    assert caught.value.hint == (f"Copy the files of the model into {folder} again, and run the same command again.")
    del made["a"].how["fails"]
    shutil.copytree(whole, folder, dirs_exist_ok=True)

    assert pull_model(folder, settings=settings).task == "fill-mask"


def test_a_folder_that_is_named_like_a_model_of_the_hub(
    shipped: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shipped.parent)

    assert run(["pull", "shipped"]) == errors.ModelNotFoundError.exit_code
    assert "./shipped" in capsys.readouterr().err
    assert plan_model("./shipped", settings=settings).kind == "shipped"


@pytest.mark.parametrize("hub_is", ["there", "gone", "switched off"])
def test_the_hint_names_the_stored_folder_that_has_the_name(
    shipped: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hub_is: str
) -> None:
    assert run(["pull", str(shipped)]) == 0
    if hub_is == "gone":
        hub.stop()
    elif hub_is == "switched off":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    capsys.readouterr()
    code = errors.ModelNotFoundError.exit_code if hub_is == "there" else errors.UnavailableError.exit_code
    try:
        for args in (["run", "shipped", "x"], ["chat", "shipped"], ["pull", "shipped", "--dry-run"]):
            assert run(args) == code, "a name is one of the Hub"
            assert f"write `{shipped}` in place of `shipped`" in capsys.readouterr().err
        assert run(["run", "shipped:int8", "x"]) == code
        assert f"write `{shipped}:int8` in place of `shipped:int8`" in capsys.readouterr().err
        assert run(["pull", "other/shipped"]) == code
        assert "in place of" not in capsys.readouterr().err
        assert run(["pull", str(shipped)]) == 0, "the reference of the hint"
        shutil.rmtree(shipped)
        assert run(["run", "shipped", "x"]) == code
        assert "in place of" not in capsys.readouterr().err, "the folder is gone"
    finally:
        if hub_is == "gone":
            hub.start()
