"""The tokenizers of a conversion: written in their effective form, with the reference answers of the pipeline's one.

Ids come from ``AutoTokenizer`` of transformers 4.57: transformers 5 ignores some settings. A toolchain with
transformers 5 has the other version in a folder of its own, for a process that runs beside the conversion
(:mod:`gpux.convert.worker.tokenizer`). What 4.57 does not know is opened with the toolchain's own version.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gpux.convert.answer_case import CHAT, TOKENS, AnswerCase, AnswerSet
from gpux.errors import CorruptFileError
from gpux.model.json_file import load_json, parse_json, read_json
from gpux.system.launch import launch_command
from gpux.system.worker_protocol import Events, Refused

PROGRAM = "gpux.convert.worker.tokenizer"
#: Folder in a toolchain with the packages for writing tokenizers, where they differ from the toolchain's own.
FOLDER = "tokenizer"
TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
_MODULES = "modules.json"
#: Names of the file that sets up sentence-transformers' transformer, as that library looks for them.
_SENTENCE_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
#: Kind of failures of single texts.
_FURTHER = f"further {TOKENS}"
_DAMAGED = "Pull it again with `gpux pull --force`."


@dataclass(frozen=True)
class Job:
    """What is written: the fields of the helper's request."""

    source: str  #: folder of the repository
    output: str  #: folder of the variant
    task: str  #: the Hub's name
    trust_remote_code: bool = False


class TokenizerWork:
    """Writes the tokenizers of a conversion, in another process if this one's transformers is not the reference.

    Args:
        job: what is written.
        events: for warnings.
    """

    def __init__(self, job: Job, events: Events) -> None:
        self._job, self._events = job, events
        self._folders = tokenizer_folders(Path(job.source))
        self._process: subprocess.Popen[bytes] | None = None
        if self._folders and packages().is_dir():
            self._process = _start(job)

    def finish(self) -> AnswerSet:
        """Wait until the tokenizers are written; the cases of ids and chats.

        Raises:
            Refused: a file is damaged.
        """
        if self._process is None:
            return write_tokenizers(self._job, self._events)
        with self._process as process:
            events = list(_read(process))
            process.wait()  # before its standard input is closed, which would end it at once
        last: dict[str, Any] = events[-1] if events else {}
        if last.get("event") == "failure" and last["code"] == "corrupt_file":
            raise Refused(last["code"], last["message"], last.get("hint"))
        if last.get("event") != "result" or (TOKENS in last["failures"] and not self._written()):
            return write_tokenizers(self._job, self._events)
        for event in events:
            if event["event"] == "warning":
                self._events.send(**event)
        return _answers(last)

    def _written(self) -> bool:
        return any((Path(self._job.output) / folder / TOKENIZER).is_file() for folder in self._folders)

    def for_answers(self) -> Any:
        """A tokenizer for answers of this process's transformers, if ``AutoTokenizer`` opens another one; else None.

        Call it after :meth:`finish`. transformers' fast tokenizer may differ from the slow one of a repository, and the
        one that was written is equal to the slow one.
        """
        from gpux.convert.worker.tokenizer.effective import effective_version, library, open_tokenizer, read_effective
        from gpux.convert.worker.tokenizer.later import is_later

        source, output = Path(self._job.source), Path(self._job.output)
        own = self._process is None or effective_version(output) in (None, library())
        converted = (output / TOKENIZER).is_file() and not (source / TOKENIZER).is_file()
        if own and not converted and not is_later(source):
            return None
        try:
            opened = open_tokenizer(source, trust_remote_code=self._job.trust_remote_code)
        except Exception:  # noqa: BLE001 - tokenizer classes raise anything
            opened = None
        if own and not (converted and opened is not None and opened.is_fast and _differs(opened, output)):
            return opened
        template = read_json(source / CONFIG).get("chat_template") if opened is None else opened.chat_template
        return read_effective(output, template)


def _differs(tokenizer: Any, output: Path) -> bool:
    """Whether the tokenizer that was written has other ids than a fast one on a text, also around special tokens."""
    from tokenizers import Tokenizer

    from gpux.convert.worker.tokenizer.proof import EDGES, SAMPLES

    written, given = Tokenizer.from_file(str(output / TOKENIZER)), tokenizer.backend_tokenizer
    around = [text for token in tokenizer.all_special_tokens for text in (f"one {token} two", f"one{token}two")]
    return any(written.encode(text).ids != given.encode(text).ids for text in (*SAMPLES, *EDGES, *around))


def packages() -> Path:
    """The folder of other packages for writing tokenizers in this interpreter's environment; need not exist."""
    return Path(sys.prefix) / FOLDER


def tokenizer_folders(source: Path) -> tuple[str, ...]:
    """The folders that have a tokenizer, relative to the repository; ``""`` is the repository's own."""
    from gpux.convert.worker.tokenizer.conversion import has_slow_files

    folders = dict.fromkeys(["", *_module_folders(source)])
    return tuple(
        folder for folder in folders if (source / folder / TOKENIZER).is_file() or has_slow_files(source / folder)
    )


def _module_folders(source: Path) -> list[str]:
    """The folders of sentence-transformers' modules, in order."""
    try:
        modules = load_json(source / _MODULES)
    except (OSError, CorruptFileError):
        return []
    found = [module.get("path") for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []
    return [path for path in found if isinstance(path, str) and ".." not in Path(path).parts]


def write_tokenizers(job: Job, events: Events) -> AnswerSet:
    """Write the tokenizer of each folder that has one, with this process's transformers.

    Returns:
        The cases of the tokenizer that the pipeline of the task uses. A tokenizer that transformers cannot open stays
        as it is in the repository: ``failures`` has the reason.

    Raises:
        Refused: a file of a tokenizer is damaged.
    """
    source, output = Path(job.source), Path(job.output)
    folders = tokenizer_folders(source)
    modules = _module_folders(source)
    main = next((folder for folder in modules if folder in folders), "" if "" in folders else None)
    found = AnswerSet()
    for folder in folders:
        opened, reason = _write(source / folder, output / folder, events, job)
        if folder != main:
            continue
        if opened is None:
            found = AnswerSet((), _versions(), {TOKENS: reason})
        else:
            found = _asked(opened, source, folder if modules else None, job)
            if not opened.is_fast:
                found = _known(found, output / folder, source / folder, job)
    return found


def _write(source: Path, output: Path, events: Events, job: Job) -> tuple[Any, str]:
    """Write one tokenizer; the tokenizer of transformers, or None and the reason why it has none."""
    from gpux.convert.worker.tokenizer.conversion import write_fast_tokenizer
    from gpux.convert.worker.tokenizer.effective import open_tokenizer, write_effective, write_settings

    if (source / TOKENIZER).is_file():
        _check(source / TOKENIZER)
        try:
            tokenizer = open_tokenizer(source, trust_remote_code=job.trust_remote_code)
            if tokenizer.is_fast:
                write_effective(tokenizer, source, output)
                return tokenizer, ""
        except Exception as exc:  # noqa: BLE001 - tokenizer classes raise anything
            reason = _reason(exc, source)
            events.warning(f"transformers cannot open the tokenizer, so its ids are not proven: {reason}")
            return None, reason
    events.stage("tokenizer", "Writing tokenizer.json")
    slow = write_fast_tokenizer(source, output, events, trust_remote_code=job.trust_remote_code)
    if slow is None:
        written = (output / TOKENIZER).is_file()
        return None, "transformers does not read it" if written else "no equal tokenizer.json was found"
    write_settings(slow, source, output)
    return slow, ""


def _check(file: Path) -> None:
    """Check that a file is JSON.

    Raises:
        Refused: it is not.
    """
    try:
        parse_json(file.read_bytes())
    except ValueError as exc:
        raise Refused("corrupt_file", f"{file.name} cannot be read: {exc}", _DAMAGED) from exc


def _asked(tokenizer: Any, source: Path, module: str | None, job: Job) -> AnswerSet:
    """The cases of a tokenizer; ``module`` is its folder in a repository of sentence-transformers."""
    from gpux.convert.worker.tokenizer.effective import lower_case_first
    from gpux.convert.worker.tokenizer.questions import Questions

    sentence: dict[str, Any] = {}
    if module is not None and job.task in ("feature-extraction", "sentence-similarity"):
        files = (source / module / name for name in _SENTENCE_FILES)
        sentence = next((read_json(file) for file in files if file.is_file()), {})
    limit = sentence.get("max_seq_length")
    if sentence.get("do_lower_case") and tokenizer.is_fast:
        lower_case_first(tokenizer)
    questions = Questions(tokenizer, job.task, limit if isinstance(limit, int) else None)
    cases: list[AnswerCase] = []
    failures: dict[str, str] = {}
    try:
        found, errors = questions.tokens()
        cases += found
        if errors:
            failures[_FURTHER] = f"{len(errors)} texts are refused by transformers: {_reason(errors[0], source)}"
    except Exception as exc:  # noqa: BLE001 - tokenizer classes raise anything
        failures[TOKENS] = _reason(exc, source)
    try:
        cases += questions.chats()
    except Exception as exc:  # noqa: BLE001 - templates raise anything
        failures[CHAT] = _reason(exc, source)
    return AnswerSet(tuple(cases), _versions(), failures)


def _reason(exc: BaseException, source: Path) -> str:
    """The error in one line, without the path of the folder, which another machine does not have."""
    line = " ".join(str(exc).replace(f"{source}", source.name).split())
    return f"{type(exc).__name__}: {line if len(line) <= 300 else f'{line[:299]}…'}"


def _known(found: AnswerSet, output: Path, source: Path, job: Job) -> AnswerSet:
    """The cases of a slow tokenizer without those on which its tokenizer.json is known to differ.

    Where the tokenizer.json agrees with the fast tokenizer that ``AutoTokenizer`` opens, that one is the reference.
    Other differences on unusual texts were a warning when the file was written; ``failures`` has their number.
    """
    from tokenizers import Tokenizer

    from gpux.convert.worker.tokenizer.originals import open_fast
    from gpux.convert.worker.tokenizer.questions import Questions, is_unusual

    written = Tokenizer.from_file(str(output / TOKENIZER))
    differing = {case.name for case in found.cases if case.kind == TOKENS and not _equal(written, case)}
    if not differing:
        return found
    try:
        fast = open_fast(source, trust_remote_code=job.trust_remote_code)
        others = {case.name: case for case in Questions(fast, job.task).tokens()[0]} if fast is not None else {}
    except Exception:  # noqa: BLE001 - tokenizer classes raise anything
        others = {}
    agreed = {name: others[name] for name in differing if name in others and _equal(written, others[name])}
    left = {name for name in differing - agreed.keys() if is_unusual(name)}
    cases = tuple(agreed.get(case.name, case) for case in found.cases if case.name not in left)
    if not left:
        return AnswerSet(cases, found.versions, found.failures)
    reason = f"{len(left)} unusual texts have other ids than in the slow tokenizer"
    reasons = "; ".join(filter(None, (found.failures.get(_FURTHER), reason)))
    return AnswerSet(cases, found.versions, {**found.failures, _FURTHER: reasons})


def _equal(tokenizer: Any, case: AnswerCase) -> bool:
    """Whether a tokenizer has the ids of a case; cases with a limit are equal if the whole texts are."""
    if case.options:
        return True
    texts = [case.inputs] if isinstance(case.inputs, str) else case.inputs
    encoding = tokenizer.encode(*texts)
    types = case.expected["type_ids"]
    return bool(encoding.ids == case.expected["ids"] and types in (None, encoding.type_ids))


def _versions() -> dict[str, str]:
    """Of the libraries that tokenize, under names that differ from those of the libraries that run the model."""
    return {f"{name} (tokenizer)": version(name) for name in ("transformers", "tokenizers")}


# --- the helper process -----------------------------------------------------------------------------------------------


def answer(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """The helper's answer to a request with the fields of :class:`Job`: the fields of the answer set."""
    return asdict(write_tokenizers(Job(**request), events))


def _answers(result: dict[str, Any]) -> AnswerSet:
    cases = tuple(AnswerCase(**case) for case in result["cases"])
    return AnswerSet(cases, result["versions"], result["failures"])


def _start(job: Job) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(launch_command(_python(), PROGRAM), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
    process.stdin.flush()  # its standard input stays open: when this process ends, it closes and the other ends too
    return process


def _python() -> Path:
    """The environment's own interpreter: ``sys.executable`` may be a program that hands over to a process with other
    packages in memory."""
    found = Path(sys.prefix) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    return found if found.is_file() else Path(sys.executable)


def _read(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
