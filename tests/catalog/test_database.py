"""The catalog's file: uses of runs, several processes, kills, schemas, export."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpux import Settings
from gpux.catalog import Catalog, Facts, Record, record_status, record_use, to_json, to_yaml
from gpux.catalog.database import SCHEMA
from gpux.catalog.events import events_folder
from gpux.errors import CancelledError, CorruptFileError, ManagerError, StorageError, UsageError
from gpux.model.reference import ModelRef
from gpux.system.events import pull_published

COMMIT = "c" * 40


@pytest.fixture
def own() -> Settings:
    return Settings.from_env()


@pytest.fixture
def kept(own: Settings) -> Catalog:
    catalog = Catalog(settings=own)
    catalog.put(record("a/one"))
    catalog.put(record("a/two", reported=Facts(parameters=5000, languages=("en", "no"))))
    return catalog


def record(reference: str, **values: Any) -> Record:
    id = reference.partition("@")[0]
    return Record(
        **{"reference": reference, "scheme": "hf", "id": id, "added": "2026-01-01", "commit": COMMIT, **values}
    )


def test_uses_are_counted(own: Settings, kept: Catalog) -> None:
    began = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    for _ in range(3):
        record_use("a/one", settings=own)
    record_use("a/other", settings=own)
    record_use("a/one", scheme="local", settings=own)
    one, two = kept.records()
    assert (one.uses, one.status, two.uses, two.last_used) == (3, "pulled", 0, None)
    assert one.last_used is not None
    assert began <= one.last_used[:19] <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    record_use("a/one")  # settings of the environment
    assert kept.get("a/one").uses == 4
    assert kept.put(record("a/one"))[0].uses == 4


def test_a_use_counts_for_records_of_its_commit(own: Settings, kept: Catalog) -> None:
    kept.put(record("a/one@v1", revision="v1", commit="d" * 40, aliases=("short",)))
    record_use("a/one", commit="d" * 40, settings=own)
    record_use("short", settings=own)
    assert [(one.reference, one.uses) for one in kept.records()] == [("a/one", 0), ("a/one@v1", 2), ("a/two", 0)]
    record_use("a/one", commit="e" * 40, settings=own)
    assert [one.uses for one in kept.records()] == [1, 3, 0]


def test_pulls_set_the_status(own: Settings, kept: Catalog) -> None:
    with pytest.raises(ManagerError), pull_published(ModelRef.parse("a/one"), own):
        raise ManagerError("nothing came")
    assert (kept.get("a/one").status, kept.get("a/one").reason) == ("failed", "nothing came")
    with pytest.raises(CancelledError), pull_published(ModelRef.parse("a/two"), own):
        raise CancelledError("cancelled")
    assert kept.get("a/two").status == "new"
    with pull_published(ModelRef.parse("a/one@main"), own):
        pass
    assert (kept.get("a/one").status, kept.get("a/one").reason) == ("pulled", None)
    record_status("a/two", "failed", reason="x" * 10_000, settings=own)
    assert len(kept.get("a/two").reason or "") == 500


def test_recording_never_fails(tmp_path: Path, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    record_use("a/one", settings=own)  # no catalog
    assert not own.home.exists()
    catalog = Catalog(settings=own)
    catalog.put(record("a/one"))
    events_folder(catalog.path).write_text("a file in the place of the folder")
    record_use("a/one", settings=own)
    assert catalog.get("a/one").uses == 0
    monkeypatch.setenv("HF_ENDPOINT", "no url")
    record_use("a/one")
    catalog.path.write_bytes(b"damaged")
    record_use("a/one", settings=own)


def test_recording_does_not_wait_for_a_writer(own: Settings, kept: Catalog) -> None:
    record_use("a/one", settings=own)
    with sqlite3.connect(kept.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(200):
            record_use("a/one", settings=own)
        (events,) = events_folder(kept.path).iterdir()
        assert len(events.read_bytes().splitlines()) == 201  # written while the database is locked
        other.execute("ROLLBACK")
    other.close()
    assert kept.get("a/one").uses == 201


def test_truncated_and_foreign_lines_are_skipped(own: Settings, kept: Catalog) -> None:
    record_use("a/one", settings=own)
    (file,) = events_folder(kept.path).iterdir()
    lines = [b"not json", b'{"event": "used"}', b"[]", b'{"event": "used", "scheme": "hf", "id": 5, "time": ""}']
    with file.open("ab") as journal:
        journal.write(b"\n".join(lines) + b"\n" + b'{"event": "used", "sche')
    record_use("a/two", settings=own)  # its line continues the truncated one
    record_use("a/one", settings=own)
    assert [one.uses for one in kept.records()] == [2, 0]
    (events_folder(kept.path) / "notes.txt").touch()
    assert [one.uses for one in kept.records()] == [2, 0]


def test_event_files_of_past_days_are_removed(own: Settings, kept: Catalog) -> None:
    record_use("a/one", settings=own)
    (file,) = events_folder(kept.path).iterdir()
    old = file.with_name("2020-01-01")
    file.rename(old)
    assert kept.get("a/one").uses == 1
    assert not old.exists()
    record_use("a/one", settings=own)
    assert kept.get("a/one").uses == 2
    assert kept.get("a/one").uses == 2


WRITER = """
import sys
from gpux import Settings
from gpux.catalog import Catalog, Record, record_use
name, number = sys.argv[1], int(sys.argv[2])
settings = Settings.from_env()
catalog = Catalog(settings=settings)
print("ready", flush=True)
for i in range(number):
    id = f"{name}/m{i}"
    catalog.put(Record(id, "hf", id), {"name": id})
    catalog.put(Record("shared/one", "hf", "shared/one"), {"defaults": {f"{name}{i}": i}})
    record_use("shared/one", settings=settings)
    print(id, flush=True)
"""


def writer(name: str, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, name, str(number)], stdout=subprocess.PIPE, text=True)


def test_several_processes(own: Settings) -> None:
    started = [writer(name, 15) for name in "abcd"]
    for process in started:
        process.communicate()
        assert process.returncode == 0
    records = {one.reference: one for one in Catalog(settings=own).records()}
    assert len(records) == 61
    assert len(records["shared/one"].defaults) == 60  # no merge was lost
    assert records["shared/one"].uses == 60


def test_killed_writers_leave_an_intact_catalog(own: Settings) -> None:
    catalog = Catalog(settings=own)
    known: set[str] = set()
    for attempt in range(6):
        process = writer(f"k{attempt}", 10_000)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(1 + 2 * attempt)]  # "ready", and what was written
        os.kill(process.pid, signal.SIGKILL)
        known |= {line.strip() for line in [*lines, *process.stdout] if "/m" in line and line.endswith("\n")}
        process.stdout.close()
        process.wait()
        found = {one.reference: one for one in catalog.records()}
        assert known <= found.keys()
        assert all(found[id].name == id for id in known)
        uses = found["shared/one"].uses if "shared/one" in found else 0
        assert len(known) <= uses <= len(known) + attempt + 1  # each printed use once
    connection = sqlite3.connect(catalog.path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_later_schema_is_refused(kept: Catalog) -> None:
    connection = sqlite3.connect(kept.path)
    connection.execute(f"PRAGMA user_version = {SCHEMA.version + 1}")
    connection.commit()
    connection.close()
    for action in (kept.records, lambda: kept.put(record("a/three"))):
        with pytest.raises(StorageError, match="this gpux reads up to") as caught:
            action()  # type: ignore[operator]
        assert not isinstance(caught.value, CorruptFileError)


def test_another_programs_database_is_not_changed(own: Settings) -> None:
    own.home.mkdir(parents=True)
    path = own.home / "catalogue.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE records (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(CorruptFileError, match="another program's"):
        Catalog(settings=own).put(record("a/one"))
    with pytest.raises(CorruptFileError, match="another program's"):
        Catalog(settings=own).records()
    assert path.read_bytes() == before


def test_an_empty_file_is_an_empty_catalog(own: Settings) -> None:
    own.home.mkdir(parents=True)
    (own.home / "catalogue.db").touch()
    assert Catalog(settings=own).records() == []


def test_invalid_values_in_a_record_are_omitted(kept: Catalog) -> None:
    odd = json.dumps({"parameters": "many", "licence": "mit", "x": 1, "languages": 5, "downloads": -3})
    connection = sqlite3.connect(kept.path)
    connection.execute("UPDATE records SET told = ?, overrides = ?, notes = '{}'", (odd, odd))
    connection.commit()
    connection.close()
    one = kept.get("a/one")
    assert one.facts == Facts(license="mit", languages=())
    assert one.overrides["license"] == "mit"


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
def test_only_the_owner_can_read_the_files(own: Settings, kept: Catalog) -> None:
    record_use("a/one", settings=own)
    (events,) = events_folder(kept.path).iterdir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (kept.path, events)] == [0o600, 0o600]
    assert sorted(path.name for path in own.home.iterdir()) == ["catalogue.db", "catalogue.events"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_home_is_read(own: Settings, kept: Catalog) -> None:
    record_use("a/one", settings=own)
    kept.path.chmod(0o400)
    own.home.chmod(0o500)
    try:
        assert [one.uses for one in kept.records()] == [0, 0]
    finally:
        own.home.chmod(0o700)
        kept.path.chmod(0o600)
    assert kept.get("a/one").uses == 1


def test_a_catalog_that_stays_locked(kept: Catalog) -> None:
    from gpux.catalog.database import Database

    connection = sqlite3.connect(kept.path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError, match="locked by another process"), Database(kept.path, wait=0.1).writing():
        pass
    connection.close()


def test_removal_is_all_or_none(kept: Catalog) -> None:
    with pytest.raises(StorageError, match="no record of 'a/three'"):
        kept.remove(["a/one", "a/three"])
    assert [one.reference for one in kept.remove(["a/one", "hf:a/one"])] == ["a/one"]
    assert [one.reference for one in kept.records()] == ["a/two"]


def test_exports_are_equal_and_plain(kept: Catalog) -> None:
    kept.put(
        record("a/no", details={"config": {"x": [1, None, "no", "1e3", "~", "é\n \u2028 x"]}}), {"name": "off: - #"}
    )
    records = kept.records(details=True)
    left, right = json.loads(to_json(records)), yaml.safe_load(to_yaml(records))
    left.pop("exported"), right.pop("exported")
    assert left == right
    assert [model["reference"] for model in left["models"]] == ["a/no", "a/one", "a/two"]
    assert left["models"][2]["languages"] == ["en", "no"]
    assert "&id" not in to_yaml(records * 2)
    assert "!!" not in to_yaml(records)


def test_two_records_of_one_name(kept: Catalog) -> None:
    for id in ("a/one", "a/two"):
        kept.put(record(id), {"name": "same"})
    with pytest.raises(UsageError, match="several records"):
        kept.get("same")


def test_yaml_is_imported_for_exports_only() -> None:
    program = "import sys, gpux.catalog; gpux.catalog.Catalog().records(); print('yaml' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"


def test_events_do_not_load_the_database(kept: Catalog) -> None:
    program = """
import sys
from gpux.system.events import ModelOpened, publish, pull_published
from gpux.model.reference import ModelRef
publish(ModelOpened("hf", "a/one"))
with pull_published(ModelRef.parse("a/two")):
    pass
heavy = {"gpux.catalog.database", "gpux.catalog.catalog", "sqlite3", "yaml", "numpy", "rich"} & set(sys.modules)
assert "gpux.catalog.events" in sys.modules and not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert [(one.uses, one.status) for one in kept.records()] == [(1, "pulled"), (0, "pulled")]


def test_a_record_with_the_british_spelling_is_read(kept: Catalog) -> None:
    connection = sqlite3.connect(kept.path)
    statement = "UPDATE records SET told = ?, overrides = ?, unknown = ? WHERE reference = 'a/one'"
    connection.execute(statement, ('{"licence": "mit", "likes": 3}', '{"licence": "apache-2.0"}', '{"licence": "no"}'))
    connection.commit()
    connection.close()
    found = kept.get("a/one")
    assert (found.facts.license, found.reported.license, found.reported.likes) == ("apache-2.0", "mit", 3)
    assert found.unknown == {"license": "no"}
