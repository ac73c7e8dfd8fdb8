"""Runs the checks of a Python client; standard library only, as each client has an environment of its own."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable

URL = os.environ["GPUX_URL"]
CHAT = os.environ["GPUX_CHAT"]
TURNS = os.environ["GPUX_TURNS"]
RECITER = os.environ["GPUX_RECITER"]
EMBEDDER = os.environ["GPUX_EMBEDDER"]
CLASSIFIER = os.environ["GPUX_CLASSIFIER"]
MASKS = os.environ["GPUX_MASKS"]
SPEECH = os.environ["GPUX_SPEECH"]
SOUND = os.environ["GPUX_SOUND"]  #: path of a flac file in which :data:`SPOKEN` is said
TASKS: dict[str, str] = json.loads(os.environ["GPUX_TASKS"])  #: task -> its model
SPOKEN = "three one four one five"
FORMAT = os.environ.get("GPUX_FORMAT", "onnx")  #: of models in Ollama's API
SMALL = os.environ.get("GPUX_SMALL", "")  #: empty: no trained model is at hand

_checks: list[Callable[[], None]] = []


class Skip(Exception):
    """Raised by a check that needs what is not at hand."""


def check(function: Callable[[], None]) -> Callable[[], None]:
    """Run this function in :func:`main`."""
    _checks.append(function)
    return function


def main(client: str, version: str) -> None:
    """Run the checks, print a line for each, and exit with 1 if one failed."""
    print(f"client: {client} {version}", flush=True)
    failed = False
    for one in _checks:
        try:
            one()
        except Skip as why:
            print(f"skipped: {one.__name__}: {why}", flush=True)
        except Exception as error:
            failed = True
            traceback.print_exc()
            print(f"failed: {one.__name__}: {type(error).__name__}: {error}".replace("\n", " "), flush=True)
        else:
            print(f"ok: {one.__name__}", flush=True)
    sys.exit(failed)
