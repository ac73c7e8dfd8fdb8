"""Pulls over gpux's own API, from a Hub on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpux.system.settings import Settings
from tests.hub import HubServer
from tests.server.running import serving
from tests.waiting import wait_until


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def test_a_pull_streams_its_progress_and_ends_with_the_model_or_its_error(
    hub: HubServer, settings: Settings, tmp_path: Path
) -> None:
    environment = {**settings.to_env(), "GPUX_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    with serving(tmp_path, ["tiny/embed"], environment=environment) as running:  # which pulls it before it starts
        wait_until(lambda: running.get("/readyz").status_code == 200)
        found = events(running.post("/gpux/v1/pull", {"model": "tiny/embed", "force": True, "stream": True}).text)
        assert found[0]["kind"] == "job"
        assert {"stage_started", "stage_finished"} <= {one["kind"] for one in found}
        assert (found[-1]["kind"], found[-1]["status"]) == ("ended", "finished")
        names = [one["name"] for one in running.get("/gpux/v1/models").json()["models"]]
        assert names == ["tiny/embed"]

        started = running.post("/gpux/v1/pull", {"model": "no/such-model"})
        assert started.status_code == 202
        id = started.json()["job"]["id"]
        ended = events(running.get(f"/gpux/v1/jobs/{id}/events").text)[-1]
        assert ended["status"] == "failed"
        assert ended["error"]["code"] == "model_not_found"
        assert running.get(f"/gpux/v1/jobs/{id}").json()["error"]["code"] == "model_not_found"

        fit = running.get("/gpux/v1/fit?model=tiny/embed&precision=int8&context=128")
        assert [one["precision"] for one in fit.json()["fit"]] == ["int8"]
        assert "embed" in str(running.get("/gpux/v1/search?query=embed&limit=3").json()["models"])
