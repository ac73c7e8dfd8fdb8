"""What clients see of errors: the sentence and the hint, and nothing of the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gpux import errors
from gpux.errors import GpuxError, error_types
from gpux.server.app import APIS
from gpux.server.security.redaction import FOR_CLIENTS, SENTENCES, clean, public

PLACES = [
    *["/home/ann/models/model.onnx", "/root/.cache/x", "/tmp/a b", "~/models", "C:\\Users\\ann\\model.onnx"],
    *["/var/lib/gpux", "/Users/ann/x.bin", str(Path.cwd() / "x"), sys.prefix + "/lib"],
]
SECRETS = ["hf_" + "a" * 34, "gpux_" + "b" * 43, "https://ann:secret@example.org/x", "0x7f8a9b0c1d20"]


@pytest.mark.parametrize("text", PLACES + SECRETS)
def test_no_api_shows_paths_tokens_and_addresses(text: str) -> None:
    secret = text.partition("@")[0].rpartition("/")[2] if "@" in text else text
    for kind in error_types().values():
        error = kind(
            f"{text} failed", hint=f"Look at {text}.", path=Path(text), log=text, folder=text, file=text, model=text
        )
        for api in APIS:
            assert secret.encode() not in api.respond(error).body, (kind, api.name)


@pytest.mark.parametrize("kind", error_types().values(), ids=lambda kind: kind.code)
def test_every_class_is_for_clients_or_has_a_sentence(kind: type[GpuxError]) -> None:
    seen = public(kind("SECRET detail", hint="Run `gpux doctor`."))
    assert type(seen) is kind
    assert seen.hint == "Run `gpux doctor`."
    assert ("SECRET" in seen.message) is issubclass(kind, FOR_CLIENTS)


def test_each_sentence_is_of_a_class_that_needs_it() -> None:
    assert not [kind for kind in SENTENCES if issubclass(kind, FOR_CLIENTS)]


def test_names_that_a_client_has_sent_stay(tmp_path: Path) -> None:
    for text in ("no such path: /v1/none", "the model 'org/name' is not stored", "write org/name:int4 at 3/4"):
        assert clean(text) == text


def test_the_reasons_of_decoders_are_left_out() -> None:
    reason = "cannot identify image file <_io.BytesIO object at 0x7f0000000000>"
    seen = public(errors.InputError(f"picture 3 cannot be read: {reason}", hint="The file is damaged.", index=3))
    assert (seen.message, seen.hint, seen.details) == ("picture 3 cannot be read", "The file is damaged.", {"index": 3})


def test_a_folder_of_an_environment_variable_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpux.server.security import redaction

    monkeypatch.setenv("GPUX_HOME", "/odd-place/of models")
    monkeypatch.setattr(redaction, "_folders", None)
    assert "odd-place" not in clean(f"{os.environ['GPUX_HOME']}/logs is full")
    monkeypatch.setattr(redaction, "_folders", None)
