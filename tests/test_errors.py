from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from gpux import errors
from gpux.errors import ConversionError, GpuxError, ProofError, error_types

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GpuxError)]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)

EXIT_CODES = {
    1: ["GpuxError"],
    2: ["ConfigurationError", "InvalidReferenceError", "UsageError", "WrongKindError"],
    3: [
        *["EntryNotFoundError", "JobNotFoundError", "ModelNotFoundError", "NotStoredError", "RevisionNotFoundError"],
        *["ConversationNotFoundError", "ProviderNotFoundError"],
    ],
    4: [
        *["AccessError", "ConversationAccessError", "DisabledModelError", "GatedModelError", "InvalidTokenError"],
        "ProviderAccessError",
    ],
    5: [
        *["HubServerError", "ManagerError", "NetworkError", "OfflineError", "RateLimitError", "UnavailableError"],
        *["ProviderError", "ProviderUnavailableError"],
    ],
    6: [
        *["CorruptFileError", "DiskFullError", "ManifestError", "NotWritableError", "StorageError", "UnsafePathError"],
        *["DatabaseError", "SchemaVersionError"],
    ],
    7: ["NoWeightsError", "UnsupportedArchitectureError", "UnsupportedError", "UnsupportedTaskError"],
    8: ["ConversionError", "OutOfMemoryError", "ToolchainError", "ToolchainMissingError", "WorkerCrashedError"],
    9: ["ProofError"],
    10: [
        *["CacheMemoryError", "ChatTemplateError", "ContextLengthError", "DeviceError", "InputError", "NumericError"],
        *["RunError", "SessionError"],
        *["AddressError", "BusyError", "DeadlineError", "DoesNotFitError", "ForbiddenError", "OverloadedError"],
        *["ServerError", "SlowReaderError", "TooLargeError", "UnauthorizedError", "WorkerDiedError"],
        *["HostError", "MediaTypeError", "MethodError", "PathNotFoundError", "SlowClientError", "TooManyAttemptsError"],
        *["ChatError", "UnsupportedOperationError"],
    ],
    130: ["CancelledError"],
}


def drawn_tree() -> dict[str, str]:
    """Class -> parent, from the tree in the module's docstring."""
    parents, above = {}, {-1: "Exception"}
    for indent, name in re.findall(r"^    ([│├└─ ]*)([A-Z]\w+Error)\b", inspect.getdoc(errors) or "", re.MULTILINE):
        depth = len(indent) // 4
        parents[name] = above[depth - 1]
        above[depth] = name
    return parents


def test_the_tree_in_the_docstring_is_current() -> None:
    assert drawn_tree() == {kind.__name__: kind.__bases__[0].__name__ for kind in KINDS}


def test_codes_are_unique_words() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@every_kind
def test_every_code_finds_its_type(kind: type[GpuxError]) -> None:
    assert error_types()[kind.code] is kind
    assert "code" in vars(kind)  # its own, not the parent's


@every_kind
def test_exit_codes(kind: type[GpuxError]) -> None:
    assert kind.__name__ in EXIT_CODES[kind.exit_code]


@every_kind
def test_pickle_and_copy(kind: type[GpuxError]) -> None:
    error = kind("it broke", hint="mend it", file=Path("a/b"), free=3)
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(again) is kind
        assert str(again) == again.message == "it broke"
        assert (again.hint, again.details) == ("mend it", {"file": Path("a/b"), "free": 3})


@every_kind
def test_to_dict_and_back(kind: type[GpuxError]) -> None:
    error = kind("it broke", hint="mend it", file=Path("a/b"), free=3)
    data = json.loads(json.dumps(error.to_dict()))
    assert data == {"code": kind.code, "message": "it broke", "hint": "mend it", "file": str(Path("a/b")), "free": 3}
    again = GpuxError.from_dict(data)
    assert type(again) is kind
    assert again.to_dict() == data


@pytest.mark.parametrize(
    "detail",
    [None, True, 1.5, "text", ["a"], ("a", 1), {"a": {"b": 1}}, [Path("a")], {"at": Path("a")}],
    ids=repr,
)
def test_details_of_any_type_become_json(detail: Any) -> None:
    assert "detail" in json.loads(json.dumps(GpuxError("it broke", detail=detail).to_dict()))


@pytest.mark.parametrize("data", [{}, {"code": "of a newer version", "message": "it broke", "extra": 1}])
def test_an_unknown_code_gives_the_base(data: dict[str, Any]) -> None:
    error = GpuxError.from_dict(data)
    assert type(error) is GpuxError
    assert error.message == data.get("message", "")
    assert error.hint is None


@pytest.mark.parametrize(
    ("details", "log"),
    [({}, None), ({"log": None}, None), ({"log": "x.log"}, Path("x.log")), ({"log": Path("y")}, Path("y"))],
)
def test_a_conversion_error_names_its_log(details: dict[str, Any], log: Path | None) -> None:
    assert ConversionError("it broke", **details).log == log
    assert isinstance(ProofError("it differs"), ConversionError)


def test_the_log_survives_to_dict() -> None:
    error = GpuxError.from_dict(ConversionError("it broke", log=Path("x.log")).to_dict())
    assert isinstance(error, ConversionError)
    assert error.log == Path("x.log")
