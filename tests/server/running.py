"""Servers of tests: a real process of ``gpux serve`` on a free port, and a store with models that need no toolchain."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import httpx2
import msgspec
from starlette.routing import compile_path

from gpux.model.variant import CallSpec, StoredModel
from gpux.server.api.endpoint import Endpoint
from gpux.server.app import APIS
from gpux.store import Store
from gpux.system.settings import Settings
from tests.models.bert import bert_repository
from tests.models.digits_onnx import digits
from tests.pipelines.caller import caller
from tests.pipelines.conftest import stored
from tests.pipelines.reciter import reciter
from tests.pipelines.writer import writer

WRITER = "tests/writer"  #: continues texts and chats, one character a token; see tests/pipelines/writer.py
TURNS = "tests/turns"  #: the same weights, in a graph whose cache grows, so that requests take turns
CALLER = "tests/caller"  #: random bytes, and calls of tools where they are enforced; see tests/pipelines/caller.py
RECITER = "tests/reciter"  #: reasons, calls a tool and talks; see tests/pipelines/reciter.py
EMBEDDER = "tests/embedder"
CLASSIFIER = "tests/classifier"
MASKS = "tests/masks"
#: Of clients: without it each one reads the certificates of all authorities, which takes 25 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SPEECH = "tests/digits"  #: transcribes spoken digits; see tests/models/digits
#: For :func:`serving`: the server sees at once that a model was removed, and not within ten seconds.
WATCHFUL = ("-c", "from gpux.server import models; models.LOOK = 0.1; from gpux.cli.main import main; main()")


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    process: subprocess.Popen[bytes]
    home: Path
    log: Path

    def client(self, **arguments: object) -> httpx2.Client:
        """A client whose addresses are relative to the server's."""
        return httpx2.Client(base_url=self.url, timeout=60.0, trust_env=False, verify=NO_TLS, **arguments)  # type: ignore[arg-type]

    def get(self, path: str, **arguments: object) -> httpx2.Response:
        with self.client() as client:
            return documented(client.get(path, **arguments))  # type: ignore[arg-type]

    def post(self, path: str, body: object = None, **arguments: object) -> httpx2.Response:
        with self.client() as client:
            return documented(client.post(path, json=body, **arguments))  # type: ignore[arg-type]


def documented(response: httpx2.Response) -> httpx2.Response:
    """The response, after a comparison of an answer with the type that the OpenAPI document has for it."""
    if response.is_success and response.headers.get("content-type") == "application/json":
        method, path = response.request.method, response.request.url.path
        found = next((one for one, pattern in _patterns() if one.method == method and pattern.match(path)), None)
        if found is not None and found.answer is not None:
            msgspec.json.decode(response.content, type=found.answer)
    return response


@cache
def _patterns() -> list[tuple[Endpoint, re.Pattern[str]]]:
    return [(one, compile_path(one.path)[0]) for api in APIS for one in api.endpoints]


def fill(home: Path) -> Settings:
    """Store the models below a home folder; the settings that find them."""
    settings = Settings.from_env({"GPUX_HOME": str(home), "HF_HOME": str(home / "hf")})
    store = Store(settings.store)
    scratch = home / "scratch"
    bert = CallSpec(max_length=64)
    for model, id in (
        (writer(scratch / "writer"), WRITER),
        (writer(scratch / "turns", "growing"), TURNS),
        (caller(scratch / "caller"), CALLER),
        (reciter(scratch / "reciter"), RECITER),
        (_bert(scratch, "feature-extraction", bert), EMBEDDER),
        (_bert(scratch, "text-classification", bert), CLASSIFIER),
        (_bert(scratch, "fill-mask", bert), MASKS),
        (digits(scratch / "digits"), SPEECH),
    ):
        put(store, model, id)
    shutil.rmtree(scratch)
    return settings


def put(store: Store, model: StoredModel, id: str) -> StoredModel:
    """Commit a model's folder to a store, under an id that then resolves."""
    with store.staging() as staging:
        shutil.copytree(model.path, staging.path, dirs_exist_ok=True)
        made = staging.commit(replace(model.manifest, scheme="hf", id=id))
    store.record_ref("hf", id, id, None, made.commit)
    return made


@contextmanager
def serving(
    home: Path,
    arguments: Sequence[str] = (),
    *,
    environment: dict[str, str] | None = None,
    program: Sequence[str] = ("-m", "gpux"),
) -> Iterator[Running]:
    """A running server; ended by SIGTERM at the end of the block.

    Args:
        home: its home folder.
        arguments: of ``gpux serve``.
        environment: variables that are set beside those of this process.
        program: what Python runs.
    """
    log = home / "serve.log"
    command = [sys.executable, "-P", *program, "serve", "--port", "0", "--json", *arguments]
    given = {**os.environ, "GPUX_HOME": str(home), "HF_HOME": str(home / "hf"), **(environment or {})}
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=given)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        yield Running(json.loads(line)["url"], process, home, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def _bert(folder: Path, task: str, call_spec: CallSpec) -> StoredModel:
    path = bert_repository(folder / task, task, onnx=True, safetensors=False)
    return stored(path, task, call_spec=call_spec)
