"""The page docs/reference/http/ollama.md, from the parameters of the requests of the server's Ollama API."""

from __future__ import annotations

import msgspec

from gpux.server.api.ollama.chat import ChatRequest
from gpux.server.api.ollama.embeddings import EmbeddingsRequest, EmbedRequest
from gpux.server.api.ollama.generate import GenerateRequest
from gpux.server.api.ollama.models import API_VERSION
from gpux.server.api.ollama.options import Options
from gpux.server.api.openai.parameters import parameters
from scripts.reference_openai import table

_INTRODUCTION = f"""# Ollama's API

`gpux serve` answers Ollama's API below `/api`, as release {API_VERSION} of Ollama has it. Clients need the
address only:

```python
from ollama import Client

client = Client(host="http://127.0.0.1:5000")
answer = client.chat(model="org/name", messages=[{{"role": "user", "content": "Hello!"}}])
```

`OLLAMA_HOST=http://127.0.0.1:5000` does the same for programs that read it. Where the server has keys, clients send
one as `Authorization: Bearer KEY`; Ollama's Python client reads it from `OLLAMA_API_KEY`.

| endpoint | scope of a key | |
|---|---|---|
| `GET`, `HEAD /api/tags` | read | stored models that generate texts or give vectors |
| `GET /api/ps` | read | loaded models |
| `POST /api/show` | read | one stored model, named by `model` or `name` |
| `GET /api/version` | read | `version` of the API, and `gpux` |
| `POST /api/chat` | infer | text-generation, with a chat template |
| `POST /api/generate` | infer | text-generation, text2text-generation, summarization, translation |
| `POST /api/embed`, `/api/embeddings` | infer | feature-extraction, sentence-similarity |
| `POST /api/pull` | manage | a model of the Hub |
| `DELETE /api/delete` | manage | the stored precision that the name stands for; source files are kept |
| `POST /api/copy`, `create`, `push`, `/api/blobs/…` | | status 501 |

## Names

`/api/tags`, `ps` and `show` name a model with its precision as the tag: `org/name:int4`. Requests may also name it
`org/name` or `org/name:latest`, which stand for the variant that `gpux list` marks. Answers repeat the name of the
request. The digest is a SHA-256 over the names and hashes of the model's files, and differs between precisions.

## Answers

`stream` is true by default for `chat`, `generate` and `pull`: the type is `application/x-ndjson`, each line is a JSON
object, and none is blank. The last line of an answer has `"done": true`, `done_reason` and these numbers, durations in
nanoseconds:

| field | value |
|---|---|
| `done_reason` | `stop`, `length`, `load` or `unload` |
| `total_duration` | from the request to the end of the answer |
| `load_duration` | until the model was loaded and free for the request |
| `prompt_eval_count` | tokens of the prompt, those in the cache included |
| `prompt_eval_duration` | until the first token, without waiting for other requests |
| `eval_count` | tokens of the answer, the end token included |
| `eval_duration` | of these tokens |

When the client leaves, the generation ends within two tokens. An error is `{{"error": "…"}}` with its HTTP status; a
model that is not stored is 404 with `model 'org/name' not found`. An error after the first line is a line
`{{"error": "…"}}`, which ends the stream.

## Tools and thinking

A call is a line of its own, with its arguments as an object: `"tool_calls": [{{"id": …, "function": {{"index": 0,
"name": …, "arguments": {{…}}}}}}]`; `done_reason` is `stop`. A call that a limit has cut, or whose arguments are not
JSON, is text. The result is a message of the role `tool` with `tool_name`, or with the `tool_call_id` of the call;
without both, it belongs to the first call that has none. A result without a call is refused. [Let a model call
tools](../../how-to/tools.md) says which models write calls.

`thinking` has the reasoning of `message`, or beside `response`. `think` sets the variable of the chat template that
decides about it (`enable_thinking`, `thinking`, `reasoning`), and a level `reasoning_effort`. What the model cannot
do is refused: `true` where it never reasons, `false` where it always does, and levels that it does not have.

## Loading and unloading

A request without `messages` or `prompt` loads the model; `done_reason` is `load`. With `keep_alive: 0` it unloads it,
which needs the scope `manage`; `done_reason` is `unload`. `keep_alive` is a number of seconds or a duration such as
`5m`; -1 keeps the model loaded. A model that stays loaded has `expires_at` in the year 2318.

## How parameters are treated

Each parameter is one of these; the tables have all parameters of Ollama's API.

* **supported**: it does what it does in Ollama's API.
* **without effect**: accepted, since clients send it.
* **refused**: status 400, unless the value asks for nothing.

A parameter that is in no table is status 400 too; Ollama ignores it. Without `options`, the model's own
`generation_config.json` decides, and the most likely token is taken where that does not sample; Ollama's own defaults
are `temperature: 0.8`, `top_k: 40`, `top_p: 0.9` and `repeat_penalty: 1.1`.
"""
_MORE = """## Describing models

`/api/show` reads the model's own files. `model_info` has `general.architecture`, which is the model type of
transformers, `general.parameter_count` by the formula of the architecture, and sizes such as `llama.context_length`
and `llama.embedding_length`. `parameters` has a line for each default of `generation_config.json`. `capabilities` are
`completion`, `embedding`, and, by the chat template, `tools` and `thinking`. `template` is the chat template, in
Jinja's notation; Ollama's are Go templates. `details.format` is `onnx`, and `quantization_level` is the precision.

## Pulling

`/api/pull` starts a pull as `POST /gpux/v1/pull` does: a job that continues when the client leaves. Lines have a
`status`, and while bytes arrive `digest` (the stage), `total` and `completed`. The last one is
`{"status": "success"}` or an error. `insecure`, `username` and `password` are refused.

## Clients

`./dev clients` runs these, unchanged, against a running server:

| client | release | checks |
|---|---|---|
| ollama (Python) | 0.6.3 | 13 |
| ollama (JavaScript) | 0.6.4 | 9 |
| langchain-ollama | 1.1.0 | 8 |
| llama-index-llms-ollama, llama-index-embeddings-ollama | 0.11.0 | 6 |
| litellm, by `ollama_chat/`, `ollama/`, `openai/` and `anthropic/` | 1.110.2 | 6 |
| llm with llm-ollama | 0.19.1 | 4 |
| ollama-haystack | 7.0.2 | 4 |

Schemathesis with Ollama's own `docs/openapi.yaml` sent 690 generated requests to the 7 of its 12 operations that change
nothing: no status was 5xx, and each JSON answer had the shape of the document. Most of these requests name models that
are not stored; streams are not validated, since schemathesis does not read lines.
"""


def ollama_api(note: str) -> str:
    """The page; ``note`` is its first line."""
    parts = [note + _INTRODUCTION]
    bodies: tuple[tuple[str, type[msgspec.Struct]], ...] = (
        ("`/api/chat`", ChatRequest),
        ("`/api/generate`", GenerateRequest),
        ("`options`", Options),
        ("`/api/embed`", EmbedRequest),
        ("`/api/embeddings`", EmbeddingsRequest),
    )
    for title, body in bodies:
        assert parameters(body)
        parts += [f"## {title}\n", table(body)]
    return "\n".join([*parts, _MORE])
