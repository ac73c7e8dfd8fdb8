"""Operations of Ollama's API that gpux does not have; each is status 501."""

from __future__ import annotations

from starlette.responses import Response

from gpux.errors import UnsupportedOperationError
from gpux.server.api.endpoint import Call


async def create(call: Call) -> Response:
    """Models are not made of a Modelfile."""
    raise UnsupportedOperationError("create is not supported", hint="Pull a model of the Hub with /api/pull.")


async def push(call: Call) -> Response:
    """Models are not uploaded."""
    raise UnsupportedOperationError("push is not supported", hint="Upload the files to the Hub with `hf upload`.")


async def copy(call: Call) -> Response:
    """Models have the names of their repositories."""
    raise UnsupportedOperationError("copy is not supported", hint="Use the model's own name, as /api/tags lists it.")


async def blobs(call: Call) -> Response:
    """Files are not uploaded."""
    raise UnsupportedOperationError("blobs are not supported", hint="Pull a model of the Hub with /api/pull.")
