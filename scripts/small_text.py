"""The prose of CPython 3.11.7 that the small model learns from, as ``tests/models/small/text.jsonl.gz``.

    python3.11 -m scripts.small_text [FOLDER]

Two sources, both under the PSF license: the language reference (`pydoc_data.topics`), and the docstrings and comments
of the standard library's Python files. The text depends on the release, so any text with another hash is refused;
training itself reads the committed file and runs on any Python.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import inspect
import json
import pydoc_data.topics
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "tests" / "models" / "small"
NAME = "text.jsonl.gz"
LICENCE = "LICENSE-PYTHON.txt"  #: the license of the release, kept beside the text
RELEASE = "3.11.7"
SHA256 = "fc9781622a5174987174c953cb8aecc94d299e10e4fea101d3a6038587091e36"  #: of the uncompressed lines
HELD_OUT = 20  #: one in this many documents is held out from training
SHORTEST = 40  #: minimum length of a paragraph in characters
LETTERS = 0.86  #: minimum share of letters and spaces in a paragraph
MOST = 60_000  #: maximum number of characters from one package, so that none dominates
#: Tests, data, generated files, and modules that distributions ship as separate packages.
SKIPPED = {
    "distutils", "encodings", "ensurepip", "idlelib", "lib2to3", "msilib", "pydoc_data", "site-packages", "test",
    "tests", "tkinter", "turtledemo",
}  # fmt: skip
#: Files with their own license are skipped, so that all text is under one license.
OWN_LICENCE = re.compile(
    r"Permission (is hereby granted|to use)|Redistribution and use|provided ['\"]as[- ]is['\"]", re.I
)
PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "…": "...", "\xa0": " "})
PROSE = re.compile(r"[ -~]+")
CODE = re.compile(r"::=|>>>|\.\.\. |--+|==+|\*\*\*|\|.*\||:\w+:|^\s*[@$+#%]|^ *\w+: ", re.M)
COMMENTS = re.compile(r"(?:^[ \t]*#.*\n)+", re.M)
MARK = re.compile(r"^[ \t]*# ?", re.M)
BULLET = re.compile(r"^\s*([*-]|\d+\.)\s+")

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Document:
    """One text: its source, its paragraphs joined by empty lines, and whether it is held out from training."""

    source: str
    text: str
    held_out: bool


def read_text(folder: Path = FOLDER) -> list[Document]:
    """The committed documents.

    Raises:
        ValueError: the file's hash is not the expected one
    """
    lines = gzip.decompress((folder / NAME).read_bytes())
    _check(lines, f"{NAME} was changed; take it from the repository again")
    return [Document(**json.loads(line)) for line in lines.splitlines()]


def paragraphs(text: str) -> list[str]:
    """The paragraphs of running English in `text`, each on one line; code, tables and grammar are left out."""
    text = inspect.cleandoc(text).translate(PLAIN)
    blocks = (BULLET.sub("", block) for block in re.split(r"\n\s*\n", text))
    joined = (_on_one_line(block) for block in blocks if not CODE.search(block))
    return [line for line in joined if _is_prose(line)]


def _on_one_line(block: str) -> str:
    line = re.sub(r"\s+", " ", block).strip()
    return re.sub(r"(?<=\w)- (?=[a-z])", "-", line)  # a compound word that was broken at the end of a line


def _is_prose(line: str) -> bool:
    letters = sum(char.isalpha() or char == " " for char in line)
    sentence = len(line) >= SHORTEST and line[0].isupper() and line[-1] in ".:!?"
    return sentence and bool(PROSE.fullmatch(line)) and letters > LETTERS * len(line)


def _topics() -> Iterator[tuple[str, list[str]]]:
    for name, text in sorted(pydoc_data.topics.topics.items()):
        for number, section in enumerate(re.split(r"\n(?=[^\n]+\n[=*~-]{4,}\n)", text)):
            yield f"topics/{name}/{number}", paragraphs(section)


def _library() -> Iterator[tuple[str, list[str]]]:
    """Docstrings and comments, file by file."""
    root = Path(ast.__file__).parent
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        relative = path.relative_to(root)
        if SKIPPED.intersection(relative.parts) or relative.name.startswith("_sysconfig"):
            continue
        code = path.read_text("utf-8")
        if OWN_LICENCE.search(code):
            continue
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        yield from ((name, paragraphs(text)) for name, text in _documented(ast.parse(code), module))
        comments = (MARK.sub("", block) for block in COMMENTS.findall(code))
        yield f"{module}/comments", [line for comment in comments for line in paragraphs(comment)]


def _documented(node: _Documented, name: str) -> Iterator[tuple[str, str]]:
    """The names below `node` that have a docstring, outermost first."""
    if text := ast.get_docstring(node):
        yield name, text
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documented(child, f"{name}.{child.name}")


def _collect() -> Iterator[Document]:
    seen: set[str] = set()
    taken: dict[str, int] = {}
    for source, texts in (*_topics(), *_library()):
        package = re.split(r"[./]", source)[0]
        fresh = [text for text in texts if text not in seen]
        if not fresh or (package != "topics" and taken.get(package, 0) > MOST):
            continue
        seen.update(fresh)
        body = "\n\n".join(fresh)
        taken[package] = taken.get(package, 0) + len(body)
        yield Document(source, body, hashlib.sha256(source.encode()).digest()[0] % HELD_OUT == 0)


def _lines(documents: Iterable[Document]) -> bytes:
    return "".join(json.dumps(asdict(document)) + "\n" for document in documents).encode()


def _check(lines: bytes, otherwise: str) -> None:
    found = hashlib.sha256(lines).hexdigest()
    if found != SHA256:
        raise ValueError(f"the text has sha256 {found} and not {SHA256}: {otherwise}")


def main() -> int:
    """Read this interpreter's standard library, and write the file and its licence."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    lines = _lines(_collect())
    try:
        _check(lines, f"this is Python {sys.version.split()[0]}; run it with CPython {RELEASE} as released")
    except ValueError as error:
        sys.exit(str(error))
    (folder / NAME).write_bytes(gzip.compress(lines, 9, mtime=0))
    shutil.copyfile(Path(ast.__file__).parent / "LICENSE.txt", folder / LICENCE)
    print(f"{len(lines):,} bytes of text in {folder / NAME}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
