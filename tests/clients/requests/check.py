"""requests, with the Python program of the legacy API's document as it is printed there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import requests
from checks import URL, check, main

DOCUMENT = Path(os.environ["GPUX_LEGACY_DOCUMENT"]).read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
BASE = f"{URL}/api/huggingface"


@check
def the_program_of_the_document_prints_an_answer() -> None:
    requests.delete(f"{BASE}/models/gpt2", timeout=60)
    program = PROGRAM.replace("http://localhost:5000", URL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) > 1


@check
def the_methods_of_its_client_answer() -> None:
    names: dict[str, object] = {}
    exec(PROGRAM.partition("# Usage example")[0].replace("http://localhost:5000", URL), names)
    client = names["HuggingFaceClient"]()  # type: ignore[operator] # defined by the program
    client.add_model("gpt2", "GPT-2", "text-generation", description="tiny", parameters={"max_new_tokens": 4})
    listed = client.list_models("text-generation")
    assert listed["success"] and "gpt2" in [model["model_id"] for model in listed["models"]]
    answer = client.generate_text("gpt2", "abc", do_sample=False)
    assert answer["success"] and answer["parameters"]["do_sample"] is False


@check
def an_error_is_json() -> None:
    answer = requests.post(f"{BASE}/generate", json={"model_id": "invalid-model", "prompt": "a"}, timeout=60)
    assert answer.status_code == 404
    assert answer.json()["error"] == "Model 'invalid-model' not found"


main("requests", requests.__version__)
