"""Run the notebooks of docs/notebooks/ on a Hub on loopback, with small models: ``./dev notebooks``.

Each notebook runs in a process of its own; a cell that fails ends the run. The rendered pages are written to
``.nox/notebooks/``. ``./dev notebooks -- --write`` also stores the outputs in the notebooks, as the documentation shows
them; further arguments are names of notebooks.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from tests.hub import HubServer, add_repo, folder_files
from tests.models.minilm import REPO_ID, minilm_repository

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "docs" / "notebooks"
PAGES = ROOT / ".nox" / "notebooks"
MODELS = ROOT / "tests" / "models"
#: The notebooks in the order in which they are read: they share a store.
ORDER = ("first-steps", "semantic-search", "choosing-a-precision", "pictures", "speech")
#: Id on the loopback Hub -> folder below tests/models.
SERVED = {
    "gpux/small": "small",
    "gpux/shapes-segmenter": "shapes-segmenter",
    "gpux/digits": "digits",
}
SECONDS = 600  #: of one cell
#: What a run has by accident: folders of this machine, times of its kernel.
_METADATA = ("execution", "collapsed", "scrolled")


def main(arguments: list[str]) -> int:
    """Run the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="notebooks without .ipynb; by default all")
    parser.add_argument("--write", action="store_true", help="store the outputs in docs/notebooks/")
    given = parser.parse_args(arguments)
    unknown = set(given.names) - set(ORDER)
    if unknown:
        print(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(ORDER)}", file=sys.stderr)
        return 2
    files = [NOTEBOOKS / f"{name}.ipynb" for name in ORDER if not given.names or name in given.names]
    PAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpux-notebooks-") as name:
        folder = Path(name)
        fill_hub(folder / "hub", folder / "source")
        with HubServer(folder / "hub") as hub:
            environment = {**hub.client_env(folder / "hf"), "GPUX_HOME": str(folder / "gpux"), "MPLBACKEND": "inline"}
            os.environ.update(environment)
            for file in files:
                run(file, folder, write=given.write)
    return 0


def fill_hub(root: Path, source: Path) -> None:
    """Add the models that the notebooks pull."""
    add_repo(root, REPO_ID, folder_files(minilm_repository(source, onnx=False)))
    for name, below in SERVED.items():
        if (MODELS / below).is_dir():
            add_repo(root, name, folder_files(MODELS / below))


def run(file: Path, folder: Path, *, write: bool) -> None:
    """Run one notebook in an empty folder, and render it.

    Raises:
        CellExecutionError: a cell failed.
    """
    began = time.perf_counter()
    notebook = nbformat.read(file, as_version=4)
    work = folder / file.stem
    work.mkdir()
    for sound in NOTEBOOKS.glob("*.flac"):
        shutil.copy(sound, work)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the notebook libraries about each other
        resources = {"metadata": {"path": str(work)}}
        client = NotebookClient(
            notebook, timeout=SECONDS, kernel_name="python3", resources=resources, coalesce_streams=True
        )
        client.execute()
    tidy(notebook, folder)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    (PAGES / f"{file.stem}.html").write_text(page, encoding="utf-8")
    if write:
        nbformat.write(notebook, file)
    print(f"{file.stem}: {len(notebook.cells)} cells in {time.perf_counter() - began:.0f} s", flush=True)


def tidy(notebook: Any, folder: Path) -> None:
    """Remove from the outputs what another run would not repeat: folders, and when cells ran."""
    for cell in notebook.cells:
        for name in _METADATA:
            cell.metadata.pop(name, None)
        for output in cell.get("outputs", ()):
            for holder in (output, output.get("data", {})):
                for kind in [kind for kind, text in holder.items() if isinstance(text, str) and kind[:5] != "image"]:
                    holder[kind] = re.sub(re.escape(str(folder)), "~", holder[kind])
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
