"""A process in which tests run the real huggingface_hub.

huggingface_hub reads its environment at import, so it cannot run in the test's own process; since the import takes
almost a second, one process serves a whole module of tests. It evaluates expressions in the namespace of
`huggingface_hub`:

    with Client(hub.env(tmp_path)) as client:
        assert client.value("model_info('org/name').sha") == hub.commit("org/name")
        assert "GatedRepoError" in client.error("hf_hub_download('org/gated', 'config.json')").names
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class ClientError:
    """An exception in the client process: the names of its classes in method resolution order, its text, its cause."""

    names: tuple[str, ...]
    text: str
    cause: ClientError | None = None

    @property
    def name(self) -> str:
        """The exception's own class."""
        return self.names[0]


@dataclass(frozen=True)
class Outcome:
    """The result of an expression: a JSON value or an error."""

    value: Any = None
    error: ClientError | None = None


@dataclass
class Client:
    """A client process with the given environment, which should come from `HubServer.env`."""

    env: Mapping[str, str]
    _process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.hub.client"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, env=dict(self.env), stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)

    def evaluate(self, expression: str, **values: object) -> Outcome:
        """The outcome of an expression, in which `values` are variables. Other objects are returned as strings."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        values = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
        self._process.stdin.write(json.dumps({"expression": expression, "values": values}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client process ended, with {self._process.wait()}")
        answer = json.loads(line)
        return Outcome(answer.get("value"), _read_error(answer.get("error")))

    def value(self, expression: str, **values: object) -> Any:
        """The value of an expression; fails if it raises."""
        outcome = self.evaluate(expression, **values)
        assert outcome.error is None, outcome.error
        return outcome.value

    def error(self, expression: str, **values: object) -> ClientError:
        """The error of an expression; fails if it raises none."""
        outcome = self.evaluate(expression, **values)
        assert outcome.error is not None, outcome.value
        return outcome.error


def _read_error(data: dict[str, Any] | None) -> ClientError | None:
    return ClientError(tuple(data["names"]), data["text"], _read_error(data["cause"])) if data else None


def _describe(error: BaseException | None) -> dict[str, Any] | None:
    if error is None:
        return None
    names = [cls.__name__ for cls in type(error).__mro__]
    return {"names": names, "text": str(error), "cause": _describe(error.__cause__)}


def _serve() -> None:
    """Evaluates one expression for each line of standard input."""
    import huggingface_hub
    from huggingface_hub import HfApi

    answers, sys.stdout = sys.stdout, sys.stderr
    api = HfApi()
    names = {name: getattr(api, name) for name in dir(api) if not name.startswith("_")}
    names |= {"HfApi": HfApi, "version": huggingface_hub.__version__, "Path": Path}
    names |= {name: getattr(huggingface_hub, name) for name in ("hf_hub_download", "snapshot_download")}
    for line in sys.stdin:
        task = json.loads(line)
        answer: dict[str, Any]
        try:
            answer = {"value": eval(task["expression"], {**names, **task["values"]})}
        except Exception as error:
            answer = {"error": _describe(error)}
        answers.write(json.dumps(answer, default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
