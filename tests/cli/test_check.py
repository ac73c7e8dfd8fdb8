"""``gpux check``, and ``gpux info`` of repositories that are not models."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from tests.commands import finished
from tests.hub import Fault, HubServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.hub, pytest.mark.usefixtures("hub")]

GPUX = [sys.executable, "-m", "gpux"]
TOKENS = ("hf_good", "hf_other", "hf_bad")


def gpux(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The finished command; no token may be in what it shows."""
    return checked(finished(*args, environment=environ))


def checked(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert not [token for token in TOKENS if token in result.stdout + result.stderr]
    assert "Traceback" not in result.stderr
    return result


@pytest.mark.parametrize("process", [True, False], ids=["process", "call"])
def test_one_line_for_each_model(hub: HubServer, process: bool) -> None:
    command = ["check", "tiny/embed", "acme/gated", "tiny/missing"]
    done = checked(subprocess.run([*GPUX, *command], capture_output=True, text=True)) if process else gpux(*command)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["tiny/embed", "acme/gated", "tiny/missing"]
    assert [line[1] for line in lines] == [
        "public: downloads without a token",
        f"gated: request access at {hub.url}/acme/gated, then log in",
        "missing, or private and needs a token",
    ]
    assert [line[4:] for line in lines] == [["yes", ""], ["no", ""], ["?", ""]]
    assert lines[0][2].isdigit()
    assert lines[0][3].endswith(" kB")
    assert f"→ Request access at {hub.url}/acme/gated" in done.stderr
    assert done.returncode == 4  # the first error's


@pytest.mark.parametrize(
    ("refs", "token", "code"),
    [
        (["tiny/embed", "gpt2"], "", 0),
        (["acme/gated", "acme/private"], "hf_good", 0),
        (["tiny/embed", "acme/private"], "", 3),
        (["acme/gated"], "hf_other", 4),
        (["tiny/missing", "acme/gated"], "hf_other", 3),
        (["tiny/embed"], "hf_bad", 4),
        (["spaces/acme/demo"], "", 2),
        (["odd/traversal"], "", 6),
        ([], "", 2),
    ],
    ids=str,
)
def test_exit_codes(refs: list[str], token: str, code: int) -> None:
    assert gpux("check", *refs, HF_TOKEN=token).returncode == code


@pytest.mark.usefixtures("impatient")
def test_no_network_is_5() -> None:
    done = gpux("check", "tiny/embed", HF_ENDPOINT="http://127.0.0.1:9")
    assert (done.returncode, "unknown: " in done.stdout) == (5, True)


def test_json() -> None:
    done = gpux("check", "--json", "tiny/fill", "acme/gated", HF_TOKEN="hf_other")
    fill, gated = json.loads(done.stdout)
    assert (fill["downloads"], fill["without_token"], fill["with_token"], fill["error"]) == (True, True, True, None)
    assert fill["size"] == sum(file["size"] for file in fill["files"])
    assert (gated["downloads"], gated["gated"], gated["error"]["code"]) == (False, "manual", "gated_model")
    assert done.returncode == 4


def test_files() -> None:
    done = gpux("check", "--files", "tiny/fill", "acme/gated")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["tiny/fill", "onnx/model.onnx"] in [row[:2] for row in rows]
    assert {(row[0], row[3]) for row in rows} == {("tiny/fill", "yes"), ("acme/gated", "no")}


def hinted(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """The commands in the hints."""
    hints = [line for line in done.stderr.splitlines() if line.lstrip().startswith("→")]
    return [found.split()[1:] for line in hints for found in re.findall(r"`(gpux [^`]*)`", line)]


@pytest.mark.parametrize(
    ("ref", "found_by"),
    [
        ("tiny/embedding", ["search", "--author", "tiny"]),
        ("other/embed", ["search", "embed"]),
        ("embed", ["search", "embed"]),
    ],
)
@pytest.mark.parametrize("command", ["check", "info", "pull", "revisions"])
def test_the_hint_for_a_wrong_name_finds_the_model(ref: str, found_by: list[str], command: str) -> None:
    commands = hinted(gpux(command, ref))

    assert found_by in commands
    assert "tiny/embed\t" in gpux(*found_by).stdout


def test_the_hint_for_a_private_model_gives_access() -> None:
    """A search shows no private model to anonymous users; the login does."""
    commands = hinted(gpux("check", "acme/private"))

    assert ["auth", "login"] in commands
    assert finished("auth", "login", stdin="hf_good").returncode == 0
    assert gpux("check", "acme/private").returncode == 0


def test_the_hint_for_a_token_without_access_shows_its_account() -> None:
    commands = hinted(gpux("check", "acme/private", HF_TOKEN="hf_other"))

    assert ["auth", "status"] in commands
    assert gpux("auth", "status", HF_TOKEN="hf_other").returncode == 0


@pytest.mark.parametrize(
    "fault",
    [Fault("hang", times=None), Fault("status", status=429, headers={"Retry-After": "100"}, times=None)],
    ids=["silent", "limited"],
)
def test_ctrl_c(hub: HubServer, fault: Fault) -> None:
    hub.add_fault(fault)
    command = [*GPUX, "check", "tiny/embed", "tiny/fill"]
    environ = os.environ | {"GPUX_TIMEOUT": "3600"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
        wait_until(lambda: hub.requests)
        process.send_signal(signal.SIGINT)
        _, remarks = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in remarks


# Repositories that are not models


def test_info_of_a_space_lists_its_models(hub: HubServer) -> None:
    for ref in ("spaces/acme/demo", f"{hub.url}/spaces/acme/demo/tree/main", "hf:spaces/acme/demo"):
        done = gpux("info", ref)
        assert (done.returncode, done.stdout) == (0, "tiny/embed\ntiny/classify\n")
        assert done.stderr == "acme/demo is a Space (gradio, running) that uses 2 models.\n"
    assert "names no models" in gpux("info", "spaces/acme/bare").stderr
    found = json.loads(gpux("info", "--json", "spaces/acme/demo").stdout)
    assert (found["id"], found["models"], found["sdk"]) == ("acme/demo", ["tiny/embed", "tiny/classify"], "gradio")


@pytest.mark.parametrize(
    ("args", "environ", "code", "said"),
    [
        (["info", "spaces/acme/missing"], {}, 3, "no such Space"),
        (["info", "spaces/acme/secret"], {}, 3, "gpux auth login"),
        (["info", "spaces/acme/secret"], {"HF_TOKEN": "hf_good"}, 0, "private"),
        (["info", "spaces/acme/demo"], {"HF_HUB_OFFLINE": "1"}, 5, "offline"),
        (["info", "http://127.0.0.1:1/spaces/acme/demo"], {}, 2, "HF_ENDPOINT"),
        (["info", "spaces/acme/demo", "--files"], {}, 2, "a Space"),
        (["info", "datasets/acme/x"], {}, 2, "hf download --repo-type dataset acme/x"),
        (["pull", "spaces/acme/demo"], {}, 2, "`gpux info spaces/acme/demo` lists the models"),
        (["pull", "datasets/acme/x"], {}, 2, "a dataset"),
    ],
    ids=str,
)
def test_answers_about_spaces_and_datasets(args: list[str], environ: dict[str, str], code: int, said: str) -> None:
    done = gpux(*args, **environ)
    assert done.returncode == code
    assert said in done.stderr
    shown = gpux(*args, "--json", **environ)
    if code == 2 and "127.0.0.1" not in args[1]:
        error = json.loads(shown.stdout)["error"]
        assert error["code"] == "wrong_kind"
        assert (error["kind"], error["id"]) == tuple(args[1].replace("s/", "\0", 1).split("\0"))
