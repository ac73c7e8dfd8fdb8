"""Send requests that schemathesis writes from the OpenAPI document to a running server. ``./dev server_fuzz`` runs it.

No answer may be a 5xx, have a status or a media type that the document lacks, or differ from its schemas; at the end
the server still answers, nothing runs, and the store is intact.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx2
from openapi_spec_validator import validate
from tests.ollama.running import running_ollama
from tests.server import running

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
#: Requests in the whole session at least.
REQUESTS = 5000
#: They would end the server, never end themselves, or need the Hub.
LEFT_OUT = (
    *("/gpux/v1/shutdown", "/gpux/v1/events", "/gpux/v1/jobs/{id}/events"),
    *("/gpux/v1/pull", "/gpux/v1/search", "/api/pull"),
)
#: Status 501, whatever is sent, which the check for server errors does not allow.
NOT_OFFERED = ("/api/create", "/api/copy", "/api/push", "/api/blobs/{digest}")
#: They change who answers, and are tried after all others.
CHANGES = ("/api/providers/{name}/config", "/api/models/{model}/config")
#: Methods that schemathesis tries although the document lacks them; DELETE would remove the models, and PUT is tried
#: last.
METHODS = ("patch", "trace")
#: Fields and parameters for the name of a model.
NAMES = ("model", "model_id", "id", "name")
MODELS = [running.WRITER, running.TURNS, running.EMBEDDER, running.CLASSIFIER, running.MASKS, "no/such"]


def main() -> int:
    """Print schemathesis' report; returns 1 when a check failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="at least, over all operations")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpux-fuzz-") as name:
        home = Path(name)
        running.fill(home)
        # Pulls that the requests start must not reach the Hub.
        with running_ollama() as ollama, running.serving(home, environment={"HF_HUB_OFFLINE": "1"}) as server:
            (home / "chat.toml").write_text(f'[providers.ollama]\nbase_url = "{ollama.url}"\n', encoding="utf-8")
            document = server.get("/openapi.json").json()
            validate(document)
            operations = sum(len(path) for path in document["paths"].values())
            schema = home / "openapi.json"
            document["paths"] = {
                path: one for path, one in document["paths"].items() if path not in (*LEFT_OUT, *NOT_OFFERED)
            }
            for path in ("/gpux/v1/models/{name}", "/api/delete"):  # the models are needed to the end
                document["paths"].get(path, {}).pop("delete", None)
            changes = {path: {"put": document["paths"][path].pop("put")} for path in CHANGES}
            status, count = 0, 0
            for paths in (document["paths"], changes):
                schema.write_text(json.dumps(_with_models({**document, "paths": paths})), encoding="utf-8")
                failed, sent = _schemathesis(server.url, schema, -(-arguments.requests // operations), arguments.seed)
                status, count = status or failed, count + sent
            print(f"{count} requests to {operations} operations")
            problems = [] if not status else ["schemathesis found answers that differ from the document"]
            if count < arguments.requests:
                problems.append(f"only {count} of {arguments.requests} requests were sent")
            problems += _at_the_end(server)
        command = [sys.executable, "-P", "-m", "gpux", "verify", "--json"]
        verified = subprocess.run(command, env={**os.environ, "GPUX_HOME": str(home)}, capture_output=True, text=True)
        if verified.returncode:
            problems.append(f"gpux verify ended with {verified.returncode}: {verified.stdout[-500:]}")
    print("\n".join(problems) or "no problem found")
    return int(bool(problems))


def _with_models(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the names of stored models, and of another one, as the values of what requests name."""
    schemas = document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in NAMES:
                    parameter["schema"] = {"type": "string", "enum": MODELS}
            for name in re.findall(r"schemas/([\w.]+)", json.dumps(operation.get("requestBody", {}))):
                fields = schemas[name].get("properties", {})
                texts = [field for field in NAMES if _is_text(fields.get(field))]
                fields.update({field: {"type": "string", "enum": MODELS} for field in texts})
    return document


def _is_text(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "string"


def _schemathesis(url: str, schema: Path, examples: int, seed: int) -> tuple[int, int]:
    """Exit status, and the number of requests."""
    report = schema.with_name("requests.ndjson")
    methods = json.dumps(METHODS)
    schema.with_name("schemathesis.toml").write_text(f"[phases.coverage]\nunexpected-methods = {methods}\n")
    command = ["run", str(schema), "--url", url, "--checks", CHECKS, "--max-examples", str(examples)]
    command += ["--phases", "coverage,fuzzing", "--workers", "2", "--seed", str(seed), "--continue-on-failure"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(report), "--suppress-health-check", "all"]
    command += ["--request-timeout", "60"]
    done = subprocess.run(
        [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", *command], cwd=schema.parent
    )
    count = 0
    with report.open(encoding="utf-8") as lines:
        for line in lines:
            count += len(json.loads(line).get("ScenarioFinished", {}).get("recorder", {}).get("interactions", {}))
    return done.returncode, count


def _at_the_end(server: running.Running) -> list[str]:
    problems = []
    if server.process.poll() is not None:
        return [f"the server ended with {server.process.returncode}"]
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        body = {"model": running.WRITER, "messages": [{"role": "user", "content": "abc"}], "max_tokens": 4}
        if (status := client.post("/v1/chat/completions", json=body, timeout=60).status_code) != 200:
            problems.append(f"a chat after the requests is answered with {status}")
        text = client.get("/metrics").text
    for line in text.splitlines():
        if line.startswith(("gpux_requests_running{", "gpux_requests_queued{")) and float(line.split()[-1]):
            problems.append(line)
    return problems


if __name__ == "__main__":
    sys.exit(main())
