"""The codes that clients of other chat servers know."""

from __future__ import annotations

from typing import get_args

import pytest

from gpux import errors
from gpux.chat.codes import ErrorCode, error_code, error_document
from gpux.errors import GpuxError, error_types
from gpux.server.security.redaction import public


def test_every_code_is_used() -> None:
    assert {error_code(kind("no")) for kind in error_types().values()} == set(get_args(ErrorCode))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ModelNotFoundError("no"), "HF_MODEL_NOT_FOUND"),
        (errors.GatedModelError("no"), "HF_AUTHENTICATION_ERROR"),
        (errors.ChatTemplateError("no"), "HF_MODEL_INFERENCE_FAILED"),
        (errors.ContextLengthError("no"), "HF_TOKENIZATION_ERROR"),
        (errors.RateLimitError("no"), "HF_RATE_LIMIT_ERROR"),
        (errors.OverloadedError("no"), "HF_MEMORY_ERROR"),
        (errors.OverloadedError("no", stopping=True), "HF_CONNECTION_ERROR"),
        (errors.ProviderError("no", status=401), "HF_AUTHENTICATION_ERROR"),
        (errors.ProviderError("no", status=429), "HF_RATE_LIMIT_ERROR"),
        (errors.ProviderError("no", status=500), "HF_MODEL_INFERENCE_FAILED"),
        (errors.ProviderUnavailableError("no", status=503), "HF_CONNECTION_ERROR"),
        (errors.DatabaseError("no"), "HF_UNKNOWN_ERROR"),
    ],
    ids=str,
)
def test_an_error_has_the_code_of_its_class_and_status(error: GpuxError, code: str) -> None:
    assert error_code(error) == code
    assert error_code(public(error)) == code


def test_a_document_has_both_codes_and_the_hint() -> None:
    error = errors.ModelNotFoundError("there is no such model", hint="Pull it.", model="x")
    assert error_document(error) == {
        "error": "there is no such model",
        "code": "model_not_found",
        "errorCode": "HF_MODEL_NOT_FOUND",
        "hint": "Pull it.",
        "model": "x",
    }
