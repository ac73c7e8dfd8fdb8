"""The page docs/reference/http/openai.md, from the parameters of the requests of the server's OpenAI API."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gpux.server.api.openai.audio import TranscriptionRequest, TranslationRequest
from gpux.server.api.openai.chat import ChatRequest
from gpux.server.api.openai.completions import CompletionRequest
from gpux.server.api.openai.embeddings import EmbeddingRequest
from gpux.server.api.openai.parameters import Parameter, StreamOptions, parameters

_LARGE = 1 << 30  #: bounds from here on are those of memory, not of meaning

_INTRODUCTION = """# OpenAI's API

`gpux serve` answers OpenAI's API below `/v1`. Clients need the base address only; a key is needed where the server has
keys.

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:5000/v1", api_key="none")
answer = client.chat.completions.create(model="org/name", messages=[{"role": "user", "content": "Hello!"}])
```

| endpoint | scope of a key | models |
|---|---|---|
| `GET /v1/models` | read | every stored model, as `org/name` and as `org/name:int4` for each stored precision |
| `GET /v1/models/{id}` | read | slashes in the id as they are, or as `%2F` |
| `POST /v1/chat/completions` | infer | text-generation, with a chat template |
| `POST /v1/completions` | infer | text-generation, text2text-generation, summarization, translation |
| `POST /v1/embeddings` | infer | feature-extraction, sentence-similarity |
| `POST /v1/audio/transcriptions` | infer | automatic-speech-recognition |
| `POST /v1/audio/translations` | infer | automatic-speech-recognition: Whisper models of many languages |

## How parameters are treated

Each parameter is one of these; the tables below have all parameters of OpenAI's API.

* **supported**: it does what it does in OpenAI's API.
* **extension**: OpenAI's API does not have it. The Python client sends it with `extra_body={"top_k": 40}`.
* **without effect**: accepted, since clients send it, where its value asks for nothing that gpux does not do anyway.
* **refused**: status 400, unless the value asks for nothing.

A parameter that is in no table, and a value out of its range, is status 400 too. The error's `param` is the name of
the parameter, such as `temperature` or `messages[0].content[1]`. `null` is the same as leaving a parameter out.
"""
_CHAT = """## Chat completions

Messages have the roles `system`, `developer` (which templates get as `system`), `user`, `assistant` and `tool`. Text
parts are joined by line breaks; a part of another type, such as `image_url`, is refused by its place.

Calls of tools are `tool_calls`, and reasoning is `reasoning_content`, of the message and of the deltas of a stream;
[Let a model call tools](../../how-to/tools.md) says for which models.

A chat without `temperature` follows the model's `generation_config.json`, and takes the most likely token where that
does not sample. OpenAI's API samples with temperature 1 there. `seed`, `top_p`, `top_k`, `min_p`, `typical_p` and
`n` above 1 turn sampling on.
"""
_COMPLETIONS = """## Completions

The number of choices is `n` for each prompt; those of the first prompt come first.
"""
_EMBEDDINGS = """## Embeddings

A text that is longer than the model reads is refused, as OpenAI's API does; `truncate` cuts it. Lists of token ids are
refused, since they are ids of another tokenizer: LangChain's `OpenAIEmbeddings` sends them unless it is given
`check_embedding_ctx_length=False`.
"""
_TRANSCRIPTIONS = """## Transcriptions

The body is a form (`multipart/form-data`) with one file. Its name is not used, its format is found from its content.

```console
$ curl http://127.0.0.1:5000/v1/audio/transcriptions -F model=org/whisper -F file=@talk.flac -F response_format=srt
```

| `response_format` | answer |
|---|---|
| `json` | `{"text": "…"}` |
| `text` | the text |
| `srt`, `vtt` | subtitles, one for each segment |
| `verbose_json` | `task language duration text`, `segments`, `words` where requested, and `usage` in seconds |

A segment has `id seek start end text tokens temperature avg_logprob compression_ratio no_speech_prob`, a word
`word start end`; times are in seconds. `compression_ratio` and `avg_logprob` are those of the segment's window of 30
seconds. Models with a CTC output, and encoder-decoders other than Whisper, answer `json` and `text`.

A Whisper model that knows English only takes `language=en` and no other one. A sound longer than `--max-seconds` is
refused by its header, before it is decoded. When the client leaves, the transcription ends within two tokens.
"""
_TRANSLATIONS = """## Translations

As a transcription, with English text. The model must have the task `translate`.
"""
_ANSWERS = """## Finish reasons

| `finish_reason` | the answer ended by |
|---|---|
| `stop` | an end token, a text of `stop`, or the end of the format of `response_format` |
| `length` | the limit of tokens, the end of the model's context, or a time limit of the model's own files |

A generation that the server ends is an error: code `deadline` and status 504 after the time limit of the server,
code `cancelled` and status 503 when the server stops.

## Usage

`usage` counts the tokens of each prompt once, also with `n` above 1. `prompt_tokens_details.cached_tokens` are tokens
of prompts whose keys and values were kept from an earlier request. Generated tokens include an end token and those of a
stop text, and so do log probabilities.

## Streams

Events are `data: {…}` and an empty line. All chunks have the same `id` and `created`. The first chunk of each choice of
a chat has the role, the last one the `finish_reason` and an empty `delta`. With
`stream_options: {"include_usage": true}`, one more chunk has `choices: []` and the usage, and all others have
`usage: null`. The last event is `data: [DONE]`.

An error before the first text has its HTTP status. A later one is the event `data: {"error": {…}}`, after which the
stream ends without `[DONE]`. While a model computes for longer than 15 seconds, comments (`: keep-alive`) keep the
connection open. When the client leaves, the generation ends within two tokens.

## Errors

```json
{"error": {"message": "…", "type": "invalid_request_error", "param": "temperature", "code": "usage"}}
```

| status | `type` | when |
|---|---|---|
| 400 | `invalid_request_error` | an invalid request; the code is `context_length_exceeded` for a too long prompt |
| 401 | `authentication_error` | no key, or an unknown one |
| 403 | `permission_error` | the key does not have the scope |
| 404 | `not_found_error` | an unknown path; an unknown model, with the code `model_not_found` |
| 429 | `rate_limit_error` | the model's queue is full; with `retry-after` and `retry-after-ms` |
| 413, 415, 421 | `invalid_request_error` | a body that is too large or not JSON, a host that the server does not have |
| 503 | `service_unavailable` | the machine cannot take the model now, or the server stops |
| other | `server_error` | the model failed |

Other codes are those of [gpux's errors](../errors.md). OpenAI's clients repeat every 5xx twice; the header
`x-should-retry: false` prevents that where the same request would fail again.
"""


_SECTIONS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    (_CHAT, ChatRequest),
    (_COMPLETIONS, CompletionRequest),
    (_EMBEDDINGS, EmbeddingRequest),
    (_TRANSCRIPTIONS, TranscriptionRequest),
    (_TRANSLATIONS, TranslationRequest),
)


def openai_api(note: str) -> str:
    """The page; ``note`` is its first line."""
    parts = [note + _INTRODUCTION]
    for text, body in _SECTIONS:
        parts += [text, table(body)]
    parts += ["## `stream_options`\n", table(StreamOptions), _ANSWERS]
    return "\n".join(parts)


def table(body: type[msgspec.Struct]) -> str:
    """The parameters of a request."""
    lines = ["| parameter | | values | meaning |", "|---|---|---|---|"]
    order = ("supported", "extension", "without effect", "refused")
    for one in sorted(parameters(body), key=lambda one: order.index(one.status)):
        lines.append(f"| `{one.name}` | {one.status} | {_values(one)} | {one.text} |")
    return "\n".join([*lines, ""])


def _values(one: Parameter) -> str:
    if one.values:
        return ", ".join(f"`{json.dumps(value)}`" for value in one.values)
    if one.status == "refused":
        return ""
    _, defined = msgspec.json.schema_components([one.kind])
    return _words(msgspec.json.schema(one.kind), defined).replace("|", "\\|")


def _words(schema: dict[str, Any], defined: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "a message" if name in ("System", "Developer", "User", "Assistant", "Tool") else "object"
    if "anyOf" in schema:
        kinds = [_words(one, defined) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"] if value is not None)
    kind: str = {"integer": "whole number", "number": "number", "string": "text", "boolean": "bool"}.get(
        schema.get("type", ""), schema.get("type", "any")
    )
    if kind == "array":
        items = schema.get("items") or {}
        return f"list of {_words(items, defined)}" if items else "list"
    if kind == "object" and isinstance(values := schema.get("additionalProperties"), dict) and values:
        return f"object of {_words(values, defined)}"
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    least = None if least is not None and least <= -_LARGE else least
    most = schema.get("maximum") if schema.get("maximum", _LARGE) < _LARGE else None
    if least is None or kind == "text":
        return kind
    above = "above " if "exclusiveMinimum" in schema else ""
    return f"{kind}, {above}{least:g} to {most:g}" if most is not None else f"{kind}, {above or 'from '}{least:g}"
