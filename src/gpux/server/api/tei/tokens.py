"""``/tokenize`` and ``/decode``."""

from __future__ import annotations

from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.api.choice import EMBEDDING, chosen
from gpux.server.api.endpoint import Call
from gpux.server.api.tei.bodies import DecodeBody, TokenizeBody, texts_of
from gpux.server.http import json_response, until_disconnected
from gpux.server.security.limits import check_request
from gpux.server.workers.messages import Detokenize, Detokenized, Tokenize, Tokenized

#: Tasks whose models have a tokenizer.
_TASKS = (
    "feature-extraction",
    "text-classification",
    "fill-mask",
    "text-generation",
    "text2text-generation",
    "token-classification",
    "question-answering",
)


def _model(call: Call, named: str | None) -> str:
    """The model whose tokenizer a request means: without a name that of ``/embed``, else the only one."""
    try:
        return chosen(call, named, EMBEDDING)
    except UsageError:
        return chosen(call, named, _TASKS)


async def tokenize(call: Call) -> Response:
    """The tokens of each text, with their places."""
    body: TokenizeBody = call.body
    if body.prompt_name is not None:
        raise UsageError("texts are tokenized without a prompt", hint="Omit it.", param="prompt_name")
    request = Tokenize(0, texts_of(body.inputs), body.add_special_tokens)
    check_request(request, call.core.settings)
    name = _model(call, body.model)

    async def answer() -> Tokenized:
        async with call.core.models.lease(name) as loaded:
            reply = await loaded.worker.ask(request)
            assert isinstance(reply, Tokenized)
            return reply

    found = await until_disconnected(call.request, answer())
    columns = zip(request.texts, found.ids, found.pieces, found.offsets, found.special, strict=True)
    return json_response([_tokens(*row) for row in columns])


def _tokens(
    text: str, ids: list[int], pieces: list[str], offsets: list[tuple[int, int]], special: list[bool]
) -> list[dict[str, object]]:
    found = []
    for id, piece, (start, stop), added in zip(ids, pieces, offsets, special, strict=True):
        # As there: the text of a token is what it stands for, and that of an added one its name.
        place: dict[str, object] = {"start": None, "stop": None} if added else {"start": start, "stop": stop}
        found.append({"id": id, "text": piece if added else text[start:stop], "special": added, **place})
    return found


async def decode(call: Call) -> Response:
    """The text of each list of token ids."""
    body: DecodeBody = call.body
    if not body.ids:
        raise UsageError("ids is empty", hint="Send at least one token id.", param="ids", empty=True)
    lists = [ids for ids in body.ids if isinstance(ids, list)]
    request = Detokenize(0, lists or [[id for id in body.ids if isinstance(id, int)]], body.skip_special_tokens)
    name = _model(call, body.model)

    async def answer() -> Detokenized:
        async with call.core.models.lease(name) as loaded:
            reply = await loaded.worker.ask(request)
            assert isinstance(reply, Detokenized)
            return reply

    return json_response((await until_disconnected(call.request, answer())).texts)
