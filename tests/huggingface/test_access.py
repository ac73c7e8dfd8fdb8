"""Access checks: correct verdicts by few requests, and no token where it does not belong."""

from __future__ import annotations

import json
import pickle
import threading
from dataclasses import replace
from typing import Any

import pytest

from gpux import Settings, errors
from gpux.errors import WrongKindError
from gpux.huggingface.access import AccessReport, check_access, check_many
from gpux.model.reference import ModelRef
from gpux.system.cancel import CancelToken
from tests.hub import Fault, HubServer
from tests.hub.wire import PATIENCE

pytestmark = pytest.mark.hub

NOBODY, ADA, BOB, BAD = None, "hf_good", "hf_other", "hf_bad"

#: reference, token -> beginning of the verdict, without a token, with the token, error
VERDICTS: list[tuple[str, str | None, str, bool | None, bool | None, type[errors.GpuxError] | None]] = [
    ("tiny/embed", NOBODY, "public: downloads without a token", True, None, None),
    ("tiny/embed", BOB, "public: downloads without a token", True, True, None),
    ("tiny/embed@v1", NOBODY, "public: downloads without a token", True, None, None),
    ("tiny/embed/onnx/model.onnx", NOBODY, "public: downloads without a token", True, None, None),
    ("gpt2", NOBODY, "public: downloads without a token", True, None, None),
    ("acme/gated", NOBODY, "gated: request access at http", False, None, errors.GatedModelError),
    ("acme/gated", BOB, "gated, and this token has no access: request it at", False, False, errors.GatedModelError),
    ("acme/gated", ADA, "gated: this token has access", False, True, None),
    ("acme/private", NOBODY, "missing, or private and needs a token", None, None, errors.ModelNotFoundError),
    ("acme/private", BOB, "missing, or private and not accessible with", None, None, errors.ModelNotFoundError),
    ("acme/private", ADA, "private: downloads with this token", False, True, None),
    ("tiny/missing", ADA, "missing, or private and not accessible with", None, None, errors.ModelNotFoundError),
    ("acme/disabled", ADA, "disabled by the Hub", None, None, errors.DisabledModelError),
    ("odd/empty", NOBODY, "exists, but has no files", True, None, None),
    ("odd/traversal", NOBODY, "the file name '../outside.txt' of odd/traversal", None, None, errors.UnsafePathError),
    ("tiny/embed@nope", NOBODY, "tiny/embed has no revision 'nope'", None, None, errors.RevisionNotFoundError),
    ("tiny/embed/nope.bin", NOBODY, "tiny/embed has no file 'nope.bin'", False, None, errors.EntryNotFoundError),
    ("tiny/embed", BAD, "the token is refused; without it: public", True, False, errors.InvalidTokenError),
    ("acme/gated", BAD, "the token is refused; without it: gated", False, False, errors.InvalidTokenError),
    ("spaces/acme/demo", NOBODY, "a Space, not a model", None, None, WrongKindError),
    ("https://huggingface.co/datasets/acme/x", ADA, "a dataset, not a model", None, None, WrongKindError),
    ("two words", NOBODY, "'two words' is not a model reference", None, None, errors.InvalidReferenceError),
    ("./folder", NOBODY, "./folder is not a model of the Hub", None, None, errors.InvalidReferenceError),
]


@pytest.mark.parametrize(("ref", "token", "verdict", "without", "with_token", "kind"), VERDICTS)
def test_verdicts(
    hub: HubServer,
    settings: Settings,
    ref: str,
    token: str | None,
    verdict: str,
    without: bool | None,
    with_token: bool | None,
    kind: type[errors.GpuxError] | None,
) -> None:
    report = check_access(ref, settings=replace(settings, token=token))

    assert report.verdict.startswith(verdict)
    assert "\n" not in report.verdict
    assert (report.without_token, report.with_token) == (without, with_token)
    assert (type(report.error) if report.error else None) is kind
    assert report.downloads is (kind is None)
    data = json.dumps(report.to_dict())
    assert json.loads(data)["downloads"] is report.downloads
    assert "hf_" not in f"{report!r} {data}"
    assert pickle.loads(pickle.dumps(report)).to_dict() == report.to_dict()


REQUESTS: list[tuple[str, str | None, list[tuple[str, bool]]]] = [
    ("tiny/embed", NOBODY, [("GET", False), ("HEAD", False)]),
    ("tiny/embed", ADA, [("GET", True), ("HEAD", False)]),
    ("acme/gated", NOBODY, [("GET", False), ("HEAD", False)]),
    ("acme/gated", ADA, [("GET", True), ("HEAD", True)]),
    ("acme/private", ADA, [("GET", True), ("HEAD", True)]),
    ("tiny/missing", ADA, [("GET", True)]),
    ("odd/empty", ADA, [("GET", True)]),
    ("tiny/embed", BAD, [("GET", True), ("GET", False), ("HEAD", False)]),
    ("spaces/acme/demo", ADA, []),
]


@pytest.mark.parametrize(("ref", "token", "expected"), REQUESTS)
def test_the_requests_and_which_of_them_carry_the_token(
    hub: HubServer, settings: Settings, ref: str, token: str | None, expected: list[tuple[str, bool]]
) -> None:
    check_access(ref, settings=replace(settings, token=token))

    sent = [(request.method, "Authorization" in request.headers) for request in hub.requests]
    assert sent == expected
    assert all(request.listener == "origin" for request in hub.requests)  # nothing is downloaded


def test_the_fields_of_a_report(hub: HubServer, settings: Settings) -> None:
    report = check_access("tiny/classify", settings=settings)

    assert (report.id, report.commit) == ("tiny/classify", hub.commit("tiny/classify"))
    assert (report.visibility, report.gated) == ("public", None)
    assert report.size == sum(file.size or 0 for file in report.files) > 100_000
    assert report.tried == max(report.files, key=lambda file: file.size or 0).path
    assert check_access("gpt2", settings=settings).id == "openai-community/gpt2"
    assert check_access(ModelRef("hf", "tiny/fill"), settings=settings).downloads


def test_restricted_files_of_a_model_whose_info_is_public(hub: HubServer, settings: Settings) -> None:
    """For example by an organization's rules for networks and tokens, which the info does not show."""
    user = replace(settings, token=ADA)
    hub.add_fault(Fault("status", method="HEAD", status=403))
    report = check_access("tiny/embed", settings=user)
    assert (report.verdict, report.without_token, report.with_token) == ("downloads with this token only", False, True)

    hub.add_fault(Fault("status", method="HEAD", status=403, times=2))
    report = check_access("tiny/embed", settings=user)
    assert (report.downloads, report.without_token, report.with_token) == (False, False, False)
    assert type(report.error) is errors.AccessError


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("fault", "kind", "verdict"),
    [
        ({"status": 429}, errors.RateLimitError, "unknown: the Hub limits requests"),
        ({"status": 500, "path": "blobs="}, errors.HubServerError, "unknown: the Hub fails"),
    ],
)
def test_a_failing_hub_gives_no_verdict(
    hub: HubServer, settings: Settings, fault: dict[str, Any], kind: type[errors.GpuxError], verdict: str
) -> None:
    hub.add_fault(Fault("status", times=None, **fault))
    report = check_access("tiny/embed", settings=settings)
    assert (type(report.error), report.verdict) == (kind, verdict)
    assert (report.without_token, report.with_token) == (None, None)


@pytest.mark.usefixtures("impatient")
def test_no_network_and_offline(hub: HubServer, settings: Settings) -> None:
    report = check_access("tiny/embed", settings=replace(settings, endpoint="http://127.0.0.1:9"))
    assert (type(report.error), report.verdict) == (errors.NetworkError, "unknown: the Hub does not answer")
    report = check_access("tiny/embed", settings=replace(settings, offline=True))
    assert (type(report.error), report.verdict) == (errors.OfflineError, "unknown: offline")
    assert hub.requests == []


def test_reports_are_in_the_order_of_the_references(hub: HubServer, settings: Settings) -> None:
    refs = ["tiny/embed", "tiny/missing", "two words", "acme/gated", "tiny/fill"] * 6
    reports = check_many(refs, settings=settings)
    assert [report.reference for report in reports] == refs
    assert [report.downloads for report in reports[:5]] == [True, False, False, False, True]


def test_models_are_checked_concurrently(hub: HubServer, settings: Settings) -> None:
    """The Hub answers none of the requests before all of them have arrived."""
    refs = ["tiny/embed", "tiny/classify", "tiny/fill", "tiny/weights"]
    together = threading.Barrier(len(refs), timeout=PATIENCE)
    hub.add_fault(Fault("latency", path="/api/models/", seconds=0, times=len(refs), on_strike=together.wait))
    reports: list[AccessReport] = check_many(refs, settings=replace(settings, timeout=PATIENCE))
    assert [report.downloads for report in reports] == [True] * len(refs)


@pytest.mark.usefixtures("impatient")
def test_a_check_can_be_cancelled(hub: HubServer, settings: Settings) -> None:
    hub.add_fault(Fault("hang", times=None))
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(errors.CancelledError):
        check_many(["tiny/embed", "tiny/fill"], settings=settings, cancel=cancel)
