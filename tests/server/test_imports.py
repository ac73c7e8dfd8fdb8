"""What the server's own process imports: models run in workers, so that an idle server is small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: Sends requests to the application without a network, and prints the modules that are imported afterwards.
PROGRAM = """
import asyncio, json, sys
from gpux.server import create_app

async def request(app, path):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1)}
    await app({**scope, "headers": [(b"host", b"127.0.0.1:5000")], "server": ("127.0.0.1", 5000)}, receive, send)
    return sent[0]["status"]

async def main():
    app = create_app()
    async with app.router.lifespan_context(app):
        return [await request(app, path) for path in sys.argv[1:]]

print(json.dumps(asyncio.run(main())))
print(*sorted(sys.modules))
"""
PATHS = ("/health", "/metrics", "/openapi.json", "/v1/models", "/gpux/v1/models", "/gpux/v1/server", "/gpux/v1/disk")
HEAVY = {"huggingface_hub", "numpy", "onnxruntime", "onnx", "tokenizers", "torch", "transformers", "PIL", "jinja2"}


def test_the_server_process_imports_no_library_that_runs_models(filled_home: Path) -> None:
    environment = {**os.environ, "GPUX_HOME": str(filled_home), "HF_HOME": str(filled_home / "hf")}
    command = [sys.executable, "-P", "-c", PROGRAM, *PATHS, "/api/huggingface/models"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    statuses, modules = done.stdout.splitlines()
    assert statuses == str([200] * (len(PATHS) + 1))
    imported = set(modules.split())
    assert "gpux.server.workers.worker" in imported
    assert not imported & {*HEAVY, "gpux.pipelines", "gpux.pull", "gpux.server.workers.engine"}
