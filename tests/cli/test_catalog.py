"""``gpux import`` and ``gpux catalog`` as a user types them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpux import Settings
from gpux.catalog import record_use
from gpux.cli.main import run
from tests.catalog.conftest import hub, root
from tests.catalog.repositories import COUNT, LLAMA, LLAMA_ID, MIXTRAL_ID, text
from tests.hub import Fault, HubServer, add_repo

__all__ = ["hub", "root"]  # fixtures: a Hub of its own

pytestmark = [pytest.mark.hub, pytest.mark.usefixtures("hub")]

Captured = pytest.CaptureFixture[str]


def gpux(capsys: Captured, *args: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert run(list(args)) == code
    out, err = capsys.readouterr()
    return out, err


def answer(capsys: Captured, *args: str, code: int = 0) -> Any:
    return json.loads(gpux(capsys, *args, "--json", code=code)[0])


def rows(out: str) -> list[list[str]]:
    return [line.split("\t") for line in out.splitlines()]


def test_import_and_show(capsys: Captured) -> None:
    out, err = gpux(
        capsys, "import", MIXTRAL_ID, "--params", "47B", "--context", "128000", "--name", "mix",
        "--description", "a mixture", "--default", "temperature=0.7", "--default", 'stop=["."]', "--set", "license=mit",
    )  # fmt: skip
    shown = dict(rows(out))
    assert (shown["reference"], shown["name"], shown["description"]) == (MIXTRAL_ID, "mix", "a mixture")
    assert shown["parameters"] == "47,000,000,000 (47.0B) (yours)"
    assert (shown["context length"], shown["license"]) == ("128,000 (yours)", "mit (yours)")
    assert shown["defaults"] == 'temperature=0.7, stop=["."]'
    assert shown["experts"] == "8"
    assert err == ""
    assert dict(rows(gpux(capsys, "catalog", "show", "mix")[0])) == shown
    found = answer(capsys, "catalog", "show", "mix")
    assert (found["parameters"], found["overridden"]["parameters"]) == (47_000_000_000, 46_702_792_704)
    assert found["details"]["config"]["hidden_size"] == 4096
    assert answer(capsys, "import", MIXTRAL_ID, "--set", "license=")["license"] == "apache-2.0"


@pytest.mark.parametrize("named", [("acme/small",), ("--model", "acme/small")])
@pytest.mark.parametrize("params", ["70", "70B", "70.0", "70_000_000_000"])
def test_parameters_below_1000_are_billions(capsys: Captured, named: tuple[str, ...], params: str) -> None:
    found = answer(capsys, "import", *named, "--params", params, "--context", "128000")

    assert (found["parameters"], found["context_length"]) == (70_000_000_000, 128_000)


def test_british_spelling_is_accepted(capsys: Captured, tmp_path: Path) -> None:
    path = str(tmp_path / "mine.db")
    gpux(capsys, "import", "acme/small", "--catalogue", path)
    assert rows(gpux(capsys, "catalogue", "list", "--catalogue", path)[0]) == rows(
        gpux(capsys, "catalog", "list", "--catalog", path)[0]
    )
    assert "catalogue" not in gpux(capsys, "--help")[0]


def test_dry_run(capsys: Captured, settings: Settings) -> None:
    out, err = gpux(capsys, "import", MIXTRAL_ID, "--dry-run")
    assert dict(rows(out))["parameters"] == "46,702,792,704 (46.7B)"
    assert "Nothing was written" in err
    out, err = gpux(capsys, "import", MIXTRAL_ID, "acme/small", "--dry-run")
    assert [row[:2] for row in rows(out)] == [[MIXTRAL_ID, "would be added"], ["acme/small", "would be added"]]
    assert "2 would be written, 0 failed." in err
    assert not settings.home.joinpath("catalogue.db").exists()


def test_a_gated_model_without_a_token(capsys: Captured) -> None:
    out, err = gpux(capsys, "import", LLAMA_ID)
    assert dict(rows(out))["gated"] == "manual"
    assert f"! {LLAMA_ID}: {LLAMA_ID} is gated and no token was sent" in err
    assert "run `gpux auth login` or set HF_TOKEN" in err


def test_a_list(capsys: Captured, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_bytes(
        b"\xef\xbb\xbf# mine\n\nacme/small  # a remark\nno reference!\nacme/missing\n"
        + MIXTRAL_ID.encode()
        + b"\n\xff\xfe\n"
    )
    out, err = gpux(capsys, "import", "--from-file", str(listed), code=2)
    found = rows(out)
    assert [row[1] for row in found] == ["added", "invalid_reference", "model_not_found", "added", "invalid_reference"]
    assert found[3] == [MIXTRAL_ID, "added", "text-generation", "46.7B", "32,768", "apache-2.0"]
    assert "error: acme/missing: no such model" in err
    assert "error: 'no reference!' is not a model reference" in err
    assert "accepted forms" not in err
    assert "2 written, 3 failed." in err
    again = answer(capsys, "import", "--from-file", str(listed), code=2)
    assert [one["action"] for one in again] == ["unchanged", None, None, "unchanged", None]
    assert again[1]["error"]["code"] == "invalid_reference"


def test_a_list_with_one_record_and_an_empty_list(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"acme/missing\n")))
    out, _ = gpux(capsys, "import", "--from-file", "-", code=3)
    assert rows(out)[0][:2] == ["acme/missing", "model_not_found"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"# nothing\n")))
    assert answer(capsys, "import", "--from-file", "-") == []


def test_search(capsys: Captured) -> None:
    out, _ = gpux(capsys, "import", "--search", "text-generation", "--sort", "downloads", "--limit", "1")
    assert [row[0] for row in rows(out)] == [MIXTRAL_ID]
    out, _ = gpux(capsys, "import", "--search", "classifier")
    assert [row[0] for row in rows(out)] == ["acme/classifier"]
    out, err = gpux(capsys, "import", "--search", "nothing-of-that-name")
    assert (out, "Nothing found." in err) == ("", True)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["import"], 2, "no model was named"),
        (["import", "acme/small", "--params", "0"], 2, "a number from 1,000"),
        (["import", "acme/small", "--params", "lots"], 2, "Write it as 7B"),
        (["import", "acme/small", "--set", "contxt=5"], 2, "Did you mean 'context'?"),
        (["import", "acme/small", "--set", "downloads=5"], 2, "cannot be set"),
        (["import", "acme/small", "--set", "license"], 2, "is not NAME=VALUE"),
        (["import", "acme/small", "--params", "7B", "--set", "params=8B"], 2, "given twice"),
        (["import", "acme/small", "--default", "top_p=2"], 2, "top_p must be a number greater than 0 and at most 1"),
        (["import", "acme/small", "acme/odd", "--name", "x"], 2, "--name is for one model"),
        (["import", "acme/small", "--sort", "likes"], 2, "for --search"),
        (["import", "acme/missing"], 3, "no such model"),
        (["import", "acme/small", "--offline"], 5, "offline"),
        (["catalog", "show", "acme/small"], 3, "gpux import acme/small"),
        (["catalog", "remove", "acme/small"], 3, "gpux import acme/small"),
        (["catalog", "refresh", "acme/small"], 3, "gpux import acme/small"),
        (["catalog", "export", "--output", "nowhere/at/all.json"], 6, "does not exist"),
    ],
    ids=str,
)
def test_refusals(capsys: Captured, settings: Settings, args: list[str], code: int, message: str) -> None:
    assert message in gpux(capsys, *args, code=code)[1]
    assert not settings.home.joinpath("catalogue.db").exists()


def test_list_and_remove(capsys: Captured, settings: Settings) -> None:
    assert "gpux import org/name" in gpux(capsys, "catalog")[1]
    assert answer(capsys, "catalog", "list") == []
    gpux(capsys, "import", MIXTRAL_ID, "acme/small")
    record_use(MIXTRAL_ID, settings=settings)
    found = rows(gpux(capsys, "catalog")[0])
    assert found[0][:8] == ["acme/small", "", "text-generation", "32.0k", "131,072", "", "new", "0"]
    assert found[1][:2] + found[1][6:8] == [MIXTRAL_ID, "", "pulled", "1"]
    assert [one["id"] for one in answer(capsys, "catalog", "list")] == ["acme/small", MIXTRAL_ID]
    assert [one["id"] for one in answer(capsys, "catalog")] == ["acme/small", MIXTRAL_ID]
    assert answer(capsys, "catalog", "remove", "acme/small")[0]["parameters"] == COUNT
    assert [row[0] for row in rows(gpux(capsys, "catalog", "list")[0])] == [MIXTRAL_ID]


def test_export(capsys: Captured, tmp_path: Path) -> None:
    gpux(capsys, "import", MIXTRAL_ID, "acme/small")
    as_json = json.loads(gpux(capsys, "catalog", "export")[0])
    as_yaml = yaml.safe_load(gpux(capsys, "catalog", "export", "--format", "yaml")[0])
    assert as_json["models"] == as_yaml["models"]
    assert as_yaml["models"][1]["details"]["config"]["num_local_experts"] == 8
    file = tmp_path / "models.yaml"
    out, err = gpux(capsys, "catalog", "export", "mixtral", "--output", str(file), code=3)
    assert (out, file.exists()) == ("", False)
    out, err = gpux(capsys, "catalog", "export", MIXTRAL_ID, "--brief", "--format", "yaml", "-o", str(file))
    (model,) = yaml.safe_load(file.read_text("utf-8"))["models"]
    assert (out, model["id"], "details" in model) == ("", MIXTRAL_ID, False)
    assert f"1 written to {file}." in err
    assert [path.name for path in tmp_path.glob("*models*")] == ["models.yaml"]


def test_refresh(capsys: Captured, hub: HubServer, root: Path) -> None:
    gpux(capsys, "import", MIXTRAL_ID, "acme/small")
    add_repo(root, "acme/small", {"config.json": text({**LLAMA, "max_position_embeddings": 4096})})
    hub.clear_requests()
    found = rows(gpux(capsys, "catalog", "refresh")[0])
    assert (found[0][:2], found[1]) == (["acme/small", "changed"], [MIXTRAL_ID, "current", ""])
    assert "context_length" in found[0][2]
    assert len(hub.requests) <= 4


@pytest.mark.usefixtures("impatient")
def test_refresh_reports_records_that_it_could_not_compare(capsys: Captured, hub: HubServer) -> None:
    gpux(capsys, "import", MIXTRAL_ID, "acme/small")
    hub.add_fault(Fault("status", status=500, path=MIXTRAL_ID, times=None))
    found = answer(capsys, "catalog", "refresh", MIXTRAL_ID, code=5)
    assert (found[0]["outcome"], found[0]["error"]["code"]) == ("unknown", "hub_server")
    assert gpux(capsys, "catalog", "refresh", "--offline", code=5)[0].count("offline") == 2


def test_another_catalog(capsys: Captured, tmp_path: Path, settings: Settings) -> None:
    path = str(tmp_path / "sub" / "team.db")
    gpux(capsys, "import", "acme/small", "--catalog", path)
    assert not settings.home.joinpath("catalogue.db").exists()
    assert [row[0] for row in rows(gpux(capsys, "catalog", "--catalog", path)[0])] == ["acme/small"]
    assert [row[0] for row in rows(gpux(capsys, "catalog", "list", "--catalog", path)[0])] == ["acme/small"]
    assert gpux(capsys, "catalog", "--catalog", path, "show", "acme/small")[0]


def test_a_real_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpux", "import", "acme/escapes", "acme/small", "--json"],
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert [one["record"]["id"] for one in json.loads(done.stdout)] == ["acme/escapes", "acme/small"]
    assert b"Traceback" not in done.stderr
