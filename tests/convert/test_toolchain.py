"""Toolchains with the real pip, on tiny wheels and without a network, in copies of an environment that venv made.

``test_third_party`` installs one by the command line, with an environment of its own.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest
from filelock import FileLock

from gpux.convert import mobius, optimum
from gpux.convert.host.pip import interpreter, pip
from gpux.convert.host.toolchain import MARKER, Toolchain
from gpux.convert.registry import find_toolchain, toolchains
from gpux.convert.spec import ConverterSpec
from gpux.errors import CancelledError, ToolchainError, ToolchainMissingError, UsageError
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, StageFinished, StageStarted
from gpux.system.settings import Settings
from tests.convert.wheels import PACKAGES, write_wheel, write_wheels

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
NAMES = ("optimum", "mobius")
SPECS = {"optimum": optimum.SPEC, "mobius": mobius.SPEC}
#: What of a toolchain decides what the graphs look like, besides torch and transformers.
EXPORTER = {"mobius": ("mobius-onnx",), "optimum": ("optimum-onnx", "optimum")}
REQUIREMENTS = Path(str(files("gpux.convert"))) / "requirements"


@pytest.fixture
def wheels(tmp_path: Path, copied_environments: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Tiny wheels, the only packages that pip can find, and ``tiny.txt``, the requirement file for them."""
    folder = tmp_path / "wheels"
    (tmp_path / "tiny.txt").write_text(write_wheels(folder, local="+cpu"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    yield folder


@pytest.fixture(scope="session")
def packages(environment: Path, shared_folder: Callable[[str], Path]) -> Path:
    """A copy of the environment in which pip has installed the tiny wheels."""
    folder = shared_folder("packages")
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            (folder / "tiny.txt").write_text(write_wheels(folder / "wheels", local="+cpu"))
            python = interpreter(Path(shutil.copytree(environment, folder / "made", symlinks=True)))
            options: list[str | Path] = [
                "--no-index",
                "--find-links",
                folder / "wheels",
                "--requirement",
                folder / "tiny.txt",
            ]
            pip(python, ["install", *options], log=folder / "pip.log", cancel=CancelToken())
            (folder / "done").touch()
    return folder / "made"


@pytest.fixture
def installed(toolchain: Toolchain, packages: Path) -> Toolchain:
    """The toolchain with its packages, for tests of what happens to them later."""
    return put_in_place(toolchain, packages)


def put_in_place(toolchain: Toolchain, packages: Path) -> Toolchain:
    """Copy an environment with the packages; pip then finds nothing to do, and the marker is written."""
    with pytest.MonkeyPatch.context() as patch:
        copy = partial(shutil.copytree, packages, symlinks=True)
        patch.setattr(
            "gpux.convert.host.toolchain.create_environment", lambda folder, log, cancel: interpreter(copy(folder))
        )
        toolchain.install()
    return toolchain


@pytest.fixture
def toolchain(settings: Settings, wheels: Path) -> Toolchain:
    return Toolchain(tiny(optimum.SPEC, wheels), settings)


def tiny(spec: ConverterSpec, wheels: Path) -> ConverterSpec:
    """A converter whose packages are the tiny wheels."""
    return replace(spec, requirements=wheels.parent / "tiny.txt", tokenizer_requirements=None)


def test_install_use_and_remove(toolchain: Toolchain) -> None:
    assert toolchain.status() == "missing"
    assert toolchain.versions() == {}
    heard: list[Event] = []
    toolchain.install(heard.append)
    assert [event.message for event in heard if isinstance(event, StageStarted)][1] == "Installing torch==1.0"
    assert isinstance(heard[-1], StageFinished)
    assert toolchain.status() == "ready"
    toolchain.check_ready()
    assert toolchain.versions()["torch"] == "1.0+cpu"
    assert toolchain.integrity() == toolchain.versions()
    assert toolchain.size() > 1_000_000

    made = (toolchain.path / MARKER).stat().st_mtime_ns
    toolchain.install()
    assert (toolchain.path / MARKER).stat().st_mtime_ns == made, "a ready toolchain is left alone"

    plan = toolchain.remove()
    assert (plan.path, plan.size) == (toolchain.path, toolchain.size())
    assert toolchain.status() == "ready", "a plan does nothing"
    plan.execute()
    assert (toolchain.status(), toolchain.path.exists()) == ("missing", False)
    plan.execute()  # removed already


def test_packages_that_write_tokenizers_have_a_folder_of_their_own(settings: Settings, wheels: Path) -> None:
    other = wheels.parent / "tokenizer.txt"
    other.write_text("transformers==0.9\n")
    write_wheel(wheels, "transformers", "0.9", "transformers")
    spec = replace(tiny(mobius.SPEC, wheels), tokenizer_requirements=other)
    toolchain = Toolchain(spec, settings)
    toolchain.install()
    assert [file.name for file in (toolchain.path / "tokenizer").glob("*.dist-info")] == ["transformers-0.9.dist-info"]
    assert toolchain.integrity()["transformers"] == "1.0"
    report = toolchain.size_report()
    assert [package.version for package in report.packages if package.name == "transformers"] == ["1.0", "0.9"]
    other.write_text("transformers==1.0\n")
    assert toolchain.status() == "outdated"
    assert Toolchain(tiny(mobius.SPEC, wheels), settings).status() == "outdated"


def test_damage_is_found(installed: Toolchain) -> None:
    toolchain = installed
    packages = next(toolchain.path.rglob("site-packages"))
    (packages / "torch-1.0+cpu.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2\n")
    with pytest.raises(ToolchainError, match=r"torch 2 instead of 1\.0\+cpu"):
        toolchain.integrity()
    (packages / "optimum" / "exporters" / "onnx" / "__init__.py").write_text("import nowhere")
    with pytest.raises(ToolchainError, match="nowhere"):
        toolchain.integrity()
    toolchain.python.unlink()
    assert toolchain.status() == "incomplete"
    with pytest.raises(ToolchainMissingError, match="incomplete"):
        toolchain.integrity()
    toolchain.install()
    assert toolchain.integrity() == toolchain.versions()


def test_other_requirements_make_it_outdated(toolchain: Toolchain) -> None:
    toolchain.path.mkdir(parents=True)
    toolchain.python.parent.mkdir()
    toolchain.python.touch()
    assert toolchain.status() == "incomplete"
    (toolchain.path / MARKER).write_text(json.dumps({"schema": 1, "requirements": "of yesterday", "versions": {}}))
    assert toolchain.status() == "outdated"
    with pytest.raises(ToolchainMissingError, match="outdated"):
        toolchain.check_ready()
    (toolchain.path / MARKER).write_text("cut off {")
    assert toolchain.status() == "incomplete"


def test_a_package_that_pip_cannot_find(toolchain: Toolchain, wheels: Path) -> None:
    next(wheels.glob("onnxruntime-*")).unlink()
    with pytest.raises(ToolchainError, match=r"onnxruntime==1\.0") as caught:
        toolchain.install()
    assert caught.value.log == toolchain.log
    assert toolchain.status() == "incomplete"
    with pytest.raises(ToolchainError, match=r"onnxruntime==1\.0"):
        toolchain.size_report()


def test_a_cancelled_installation_leaves_no_marker(toolchain: Toolchain) -> None:
    token = CancelToken()

    def listener(event: Event) -> None:
        if isinstance(event, StageStarted) and "torch" in event.message:
            token.cancel()

    with pytest.raises(CancelledError):
        toolchain.install(listener, token)
    assert toolchain.status() == "incomplete"
    assert toolchain.path.is_dir()


def test_the_size_is_that_of_the_files(toolchain: Toolchain, wheels: Path) -> None:
    report = toolchain.size_report()
    assert {package.name for package in report.packages} == set(PACKAGES)
    assert report.download == sum(file.stat().st_size for file in wheels.iterdir())
    assert report.unknown == ()
    assert report.largest[0].bytes == max(file.stat().st_size for file in wheels.iterdir())
    assert toolchain.status() == "missing", "nothing was installed"
    assert json.loads(json.dumps(report.to_dict()))["download"] == report.download


INSTALL = """
import shutil
import sys
from pathlib import Path
from dataclasses import replace
from gpux.convert import optimum
from gpux.convert.host import toolchain
from gpux.convert.host.pip import interpreter
from gpux.convert.host.toolchain import Toolchain
from gpux.system.settings import Settings
toolchain.create_environment = lambda folder, log, cancel: interpreter(
    Path(shutil.copytree(sys.argv[2], folder, symlinks=True))
)
heard = []
Toolchain(replace(optimum.SPEC, requirements=Path(sys.argv[1])), Settings.from_env()).install(heard.append)
print(len(heard))
"""


def test_two_processes_install_once(toolchain: Toolchain, packages: Path) -> None:
    command = [sys.executable, "-c", INSTALL, str(toolchain.spec.requirements), str(packages)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    heard = sorted(int(process.communicate()[0]) for process in running)
    assert heard[0] == 0 < heard[1], "one of them waited and found it ready"
    assert toolchain.status() == "ready"


def test_the_torch_index_is_used_for_torch_only(
    settings: Settings, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(
        "gpux.convert.host.toolchain.create_environment", lambda folder, log, cancel: Path(sys.executable)
    )
    monkeypatch.setattr("gpux.convert.host.toolchain.pip", lambda python, arguments, **_: calls.append(list(arguments)))
    monkeypatch.setattr(Toolchain, "_read_versions", lambda self, cancel: {})
    monkeypatch.setattr(Toolchain, "_write_marker", lambda self, versions: None)
    Toolchain(tiny(optimum.SPEC, wheels), settings.with_overrides(torch_index="file:///torch")).install()
    assert ["--extra-index-url" in call for call in calls] == [True, False]
    assert "torch==1.0" in calls[0]


def test_an_unknown_name(settings: Settings) -> None:
    assert tuple(toolchains(settings)) == NAMES
    with pytest.raises(UsageError, match="no toolchain"):
        find_toolchain("../optimum", settings)


@pytest.mark.parametrize(
    ("name", "missing", "present"), [("optimum", "optimum", "mobius"), ("mobius", "mobius", "optimum")]
)
def test_each_toolchain_needs_its_own_exporter(
    settings: Settings, wheels: Path, packages: Path, name: str, missing: str, present: str
) -> None:
    toolchain = put_in_place(Toolchain(tiny(SPECS[name], wheels), settings), packages)
    installed = next(toolchain.path.rglob("site-packages"))
    shutil.rmtree(installed / present)
    assert toolchain.integrity() == toolchain.versions(), "the other one's exporter does not matter"
    shutil.rmtree(installed / missing)
    with pytest.raises(ToolchainError, match=missing) as caught:
        toolchain.integrity()
    assert f"gpux toolchain install {name}" in str(caught.value.hint)


@pytest.mark.parametrize(("name", "extra"), [("optimum", "convert"), ("mobius", "mobius")])
def test_the_hint_names_the_extra(settings: Settings, name: str, extra: str) -> None:
    with pytest.raises(ToolchainMissingError) as caught:
        find_toolchain(name, settings).check_ready()
    assert f"gpux[{extra}]" in str(caught.value.hint)
    assert extra in tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]


def test_architectures_of_each_toolchain(settings: Settings) -> None:
    found = {name: find_toolchain(name, settings).converts() for name in NAMES}
    assert list(found["mobius"]) == ["text-generation"]
    assert found["optimum"]["feature-extraction"] > 20
    assert list(found["optimum"].values()) == sorted(found["optimum"].values(), reverse=True)


def pins(name: str) -> dict[str, str]:
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("name", NAMES)
def test_every_requirement_is_pinned_for_every_platform(settings: Settings, name: str) -> None:
    lines = [line for line in (REQUIREMENTS / f"{name}.txt").read_text().splitlines() if line]
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9.]*", line), line
    names = [re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines if not line.startswith("#")]
    assert len(names) == len(set(names))
    assert {"torch", "transformers", "accelerate", "sentencepiece", "onnxruntime", *EXPORTER[name]} < set(names)
    assert find_toolchain(name, settings).pins() == pins(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_architectures_is_of_the_pinned_versions(name: str) -> None:
    table = json.loads((REQUIREMENTS.parent / f"{name}_architectures.json").read_text())
    assert table["versions"] == {package: pins(name)[package] for package in table["versions"]}
    assert set(EXPORTER[name]) <= set(table["versions"])


@pytest.mark.toolchain
def test_the_table_of_architectures_is_that_of_the_pinned_optimum(
    warm_python: Path, ask_worker: Callable[..., dict[str, object]]
) -> None:
    table = json.loads((REQUIREMENTS.parent / "optimum_architectures.json").read_text())
    answer = ask_worker(warm_python, optimum.SPEC.worker, {"command": "architectures"})
    assert answer["architectures"] == table["architectures"], "run scripts/update_architectures.py optimum"
    assert answer["others"] == table["others"], "run scripts/update_architectures.py optimum"
