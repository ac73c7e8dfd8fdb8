"""The pages docs/reference/http/responses.md and anthropic.md, from the parameters of the requests of the server."""

from __future__ import annotations

from gpux.server.api.anthropic.messages import MessagesRequest, OutputConfig
from gpux.server.api.anthropic.tools import Thinking, Tool
from gpux.server.api.openai.responses import FunctionTool, Reasoning, ResponseRequest, TextConfig
from scripts.reference_openai import table

_RESPONSES = """# OpenAI's Responses API

`gpux serve` answers `POST /v1/responses` without storing anything: a request has the whole conversation. The other
endpoints of [OpenAI's API](openai.md) have the same keys, errors and limits.

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:5000/v1", api_key="none")
answer = client.responses.create(model="org/name", instructions="Be brief.", input="Hello!")
print(answer.output_text)
```

| endpoint | scope of a key | answer |
|---|---|---|
| `POST /v1/responses` | infer | a response, or its events with `stream: true` |
| `POST /v1/responses/input_tokens` | infer | `{"object": "response.input_tokens", "input_tokens": 14}` |

`store: true` is accepted, since it is the default of OpenAI's API, and the response says `store: false`.
`previous_response_id`, `conversation`, `background` and items of the type `item_reference` need what was stored, and
are refused with status 400. `GET /v1/responses/{id}` is status 404.

## Parameters

They are treated as those of [chats](openai.md#how-parameters-are-treated).
"""
_ITEMS = """## Items

| item | becomes |
|---|---|
| `message` | a message of its role; the type may be missing, and `developer` is `system` for the template |
| `reasoning` | the reasoning of the next message of the assistant, from `content` |
| `function_call` | a call of the assistant's message before it; `arguments` must be JSON of an object |
| `function_call_output` | a message of the role `tool`; a call before it must have its `call_id` |

Parts of the types `input_text`, `output_text`, `refusal` and `reasoning_text` are joined by line breaks.
`input_image`, `input_file` and `input_audio` are refused by their place. A system or developer message at the
beginning is joined to `instructions`. Further fields of items are not read, so that the items of a response can be
sent back as they are.

## Responses

The output has the items `reasoning`, `message` and `function_call` in the order in which the model writes them. The
text of the reasoning is in its `content`, and its `summary` is empty. [Let a model call tools](../../how-to/tools.md)
says which models write calls. A call whose arguments were cut by a limit, or are not JSON, has the `status`
`incomplete`. `usage.output_tokens_details.reasoning_tokens` are the tokens up to the end of the reasoning.

`status` is `completed`, or `incomplete` with `incomplete_details.reason` `max_output_tokens` after the limit of
tokens, the end of the context or a time limit of the model's own files. `temperature` and `top_p` are those of the
request, and 1 where it has none, since types of clients need a number. `usage.input_tokens_details.cached_tokens` are
tokens of prompts whose keys and values were kept from an earlier request.

## Events

Each event has a line `event:` with its type, and `data:` with a `sequence_number` that counts from 0.

| event | when |
|---|---|
| `response.created`, `response.in_progress` | at the first text |
| `response.output_item.added`, `response.content_part.added` | an item, and its text, begin |
| `response.output_text.delta`, `response.reasoning_text.delta` | more text |
| `response.function_call_arguments.delta` | more of a call's arguments |
| `response.output_text.done`, `response.reasoning_text.done`, `response.content_part.done` | the text has ended |
| `response.function_call_arguments.done` | the arguments have ended |
| `response.output_item.done` | the item has ended |
| `response.completed`, `response.incomplete` | the whole response, with its usage; then `data: [DONE]` |
| `error`, `response.failed` | the model failed; the stream ends |

An error before the first text has its HTTP status. After `response.failed`, no `[DONE]` is sent.
"""
_MESSAGES = """# Anthropic's API

`gpux serve` answers Anthropic's Messages API. Clients need the base address without `/v1`; a key in `x-api-key` or
`Authorization: Bearer` is needed where the server has keys. `anthropic-version` and `anthropic-beta` are not read.

```python
from anthropic import Anthropic

client = Anthropic(base_url="http://127.0.0.1:5000", api_key="none")
answer = client.messages.create(model="org/name", max_tokens=100, messages=[{"role": "user", "content": "Hello!"}])
print(answer.content[0].text)
```

| endpoint | scope of a key | answer |
|---|---|---|
| `POST /v1/messages` | infer | a message, or its events with `stream: true` |
| `POST /v1/messages/count_tokens` | infer | `{"input_tokens": 14}`, without running the model |

Batches, files and models in Anthropic's shape do not exist: `GET /v1/models` answers as OpenAI's API does.

## Parameters

They are treated as those of [OpenAI's API](openai.md#how-parameters-are-treated).
"""
_BLOCKS = """## Blocks

Blocks of the type `text` are joined by line breaks. `thinking` is the reasoning of an earlier answer, which the
template may read; `redacted_thinking` is not read, and signatures are not checked. A `tool_use` is a call of the
assistant, and each `tool_result` a message of the role `tool`, whose call must be in an earlier message; `is_error` is
not read. `image`, `document` and `search_result` are refused by their place, such as `messages[0].content[1]`.
`cache_control` has no effect: prompts that begin alike are found without it.

An answer has a block `thinking` before the others where the model reasons, with an empty `signature`, and a block
`tool_use` for each call. [Let a model call tools](../../how-to/tools.md) says which models write calls. The `input` of
a call that the limit of tokens has cut is empty; a stream has the part of it that was written.

## Answers

| `stop_reason` | the answer ended by |
|---|---|
| `end_turn` | an end token, or the end of the format |
| `tool_use` | calls of tools |
| `stop_sequence` | a text of `stop_sequences`, which `stop_sequence` names |
| `max_tokens` | the limit of tokens, or a time limit of the model's own files |
| `model_context_window_exceeded` | the end of the model's context |

`usage.input_tokens` leaves out the tokens that were not read again, which are `cache_read_input_tokens`. The usage of
`message_start` counts all tokens of the prompt as read; that of `message_delta` has the parts.

## Events

`message_start`, `ping`; for each block `content_block_start`, `content_block_delta` with a `thinking_delta`,
`text_delta` or `input_json_delta`, `content_block_stop`; `message_delta` with the stop reason and the usage,
`message_stop`. An error before the first text has its HTTP status; a later one is the event `error`, which ends the
stream.

## Errors

```json
{"type": "error", "error": {"type": "invalid_request_error", "message": "…"}, "request_id": "req_…"}
```

| status | `type` |
|---|---|
| 400, 405, 415, 421 | `invalid_request_error` |
| 401 | `authentication_error` |
| 403 | `permission_error` |
| 404 | `not_found_error` |
| 413 | `request_too_large` |
| 429 | `rate_limit_error` |
| 503 | `overloaded_error` |
| 504 | `timeout_error` |
| other | `api_error` |

The header `request-id` has the id, as `x-request-id`. The headers `x-should-retry` and `retry-after-ms` are those of
[OpenAI's API](openai.md#errors).
"""


def responses_api(note: str) -> str:
    """The page of the Responses API; ``note`` is its first line."""
    parts = [note + _RESPONSES, table(ResponseRequest), "### `text`\n", table(TextConfig)]
    parts += ["### `tools`\n", table(FunctionTool), "### `reasoning`\n", table(Reasoning), _ITEMS]
    return "\n".join(parts)


def anthropic_api(note: str) -> str:
    """The page of Anthropic's API; ``note`` is its first line."""
    parts = [note + _MESSAGES, table(MessagesRequest), "### `output_config`\n", table(OutputConfig)]
    parts += ["### `tools`\n", table(Tool), "### `thinking`\n", table(Thinking), _BLOCKS]
    return "\n".join(parts)
