"""Model references: what a user types to name a model."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gpux.errors import InvalidReferenceError, UnsafePathError, UnsupportedError, UsageError, WrongKindError
from gpux.model.info import check_path
from gpux.model.precisions import known_precision, names_precision, precisions_hint, resembles_precision

ACCEPTED_FORMS = """accepted forms:
  org/name                    a model of the Hugging Face Hub
  name                        the same, by its short name (gpt2)
  org/name@revision           at a branch, tag, commit or refs/pr/N
  org/name:int8               in a precision; also name@revision:int8 and ./folder:int8
  hf:org/name                 the same, with the scheme spelled out
  https://HUB/org/name        a page of the Hub, also /tree/REV, /blob/REV/FILE and /resolve/REV/FILE
  ./folder  /folder  ~/folder a folder on this machine
  file.onnx                   an ONNX file on this machine
  ./file.gguf                 a GGUF file on this machine, for `gpux info`"""

#: Hosts of the public Hub, which any configured endpoint (a mirror) stands for.
PUBLIC_HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})

_SCHEME_NAME = re.compile(r"[a-z][a-z0-9+.-]+")  # two letters or more: `C:` is a drive
_SCHEME = re.compile(rf"^({_SCHEME_NAME.pattern}):(?!//)(.+)$", re.DOTALL)
_PASSWORD = re.compile(r"//[^/@]*@")  # `user:token@` of a URL must not appear in messages
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
#: Schemes that no entry point needs to name: in ``ollama:int8``, ``int8`` is the name of a model.
_SCHEMES = frozenset({"hf", "local", "ollama"})
_LATEST = "latest"  #: the tag of Ollama's clients for a name without a tag
_PAGES = frozenset({"tree", "blob", "resolve", "raw", "commit"})
_PAGE_HINT = "Its page lists models: pull one of those."
#: first segment of the path -> kind, noun for messages, hint
_OTHER_KINDS = {
    "datasets": (
        "dataset",
        "a dataset",
        "`datasets.load_dataset({id!r})` loads it, `hf download --repo-type dataset {id}` downloads its files.",
    ),
    "spaces": ("space", "a Space", "`gpux info spaces/{id}` lists the models that it uses."),
    "collections": ("collection", "a collection", _PAGE_HINT),
    "papers": ("paper", "a paper", _PAGE_HINT),
}


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A parsed model reference; :meth:`parse` reads text, ``str()`` returns the shortest unambiguous form."""

    scheme: str  #: of the manager: ``hf``, ``local``, or one that a plug-in registers
    id: str  #: ``org/name`` or ``name``; a path for ``local``; the text after the colon for other schemes
    revision: str | None = None  #: branch, tag, ``refs/pr/N`` or commit as typed; None is the default branch
    file: str | None = None  #: one file of the repository, when the reference names one
    endpoint: str | None = None  #: origin of the URL that was typed, unless it is the public Hub's
    #: canonical name or ``auto``; None: the most exact variant that is stored, unless the user chose another
    precision: str | None = None

    def __post_init__(self) -> None:
        if self.precision is not None:
            object.__setattr__(self, "precision", known_precision(self.precision))

    @classmethod
    def parse(cls, text: Reference) -> ModelRef:
        """Parse any accepted form; a ``Path`` always names a file or folder on this machine.

        The word after the last colon is a precision if :mod:`gpux.model.precisions` knows it, and ``latest`` means no
        precision. A scheme before the first colon and an existing path that ends with a precision come first.

        Raises:
            WrongKindError: the text names a dataset, Space, collection or paper; the hint says how to use it.
            InvalidReferenceError: the text has none of the accepted forms, which the message lists.
        """
        if isinstance(text, ModelRef):
            return text
        if isinstance(text, os.PathLike):
            return cls("local", os.fspath(text))
        if not isinstance(text, str):
            raise _invalid(repr(text), f"it is of type {type(text).__name__}")
        text = text.strip()
        if not text:
            raise _invalid(text, "it is empty")
        name, precision = _split_precision(text)
        ref = _parse_name(name, text)
        if ref.file is not None and precision is not None:
            raise _invalid(text, "it names one file, which has one precision", f"Remove :{precision}.")
        return replace(ref, precision=precision)

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a full commit hash, which needs no request to resolve."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def at(self, revision: str | None) -> ModelRef:
        """The same model at a revision; None returns the reference unchanged.

        Raises:
            UsageError: the reference names a different revision.
        """
        if revision and self.revision and revision != self.revision:
            raise UsageError(
                f"{self} names a revision, and revision={revision!r} is given too", hint="Remove one of them."
            )
        return self if revision is None else replace(self, revision=revision)

    def in_precision(self, precision: str | None) -> ModelRef:
        """The same model in a precision; None returns the reference unchanged.

        Args:
            precision: a name, an alias or a file suffix of a precision, or ``auto``.

        Raises:
            UsageError: there is no such precision, or the reference names a different one.
        """
        if precision is None:
            return self
        wanted = known_precision(precision)
        if self.precision is not None and wanted != self.precision:
            raise UsageError(
                f"{self} names a precision, and precision={precision!r} is given too", hint="Remove one of them."
            )
        return replace(self, precision=wanted)

    @property
    def bare(self) -> ModelRef:
        """The same model and revision without a precision."""
        return replace(self, precision=None)

    def to_dict(self) -> dict[str, Any]:
        """The reference as JSON-able values."""
        return asdict(self)

    def __str__(self) -> str:
        name = self.id + (f"@{self.revision}" if self.revision else "")
        bare = self.scheme == ("local" if _is_local(name) else "hf")  # otherwise the scheme is part of the text
        if bare and self.precision is not None and (len(name) < 2 or _is_scheme(name)):
            bare = False
        text = name if bare else f"{self.scheme}:{name}"
        if self.precision is not None:
            return f"{text}:{self.precision}"
        return f"{text}:{_LATEST}" if _ends_with_precision(text) else text


def local_path(id: str) -> Path:
    """The absolute path that the id of a local model means; ``~name`` of an unknown user stays as it is."""
    return Path(os.path.expanduser(id)).absolute()  # noqa: PTH111 - Path.expanduser raises for an unknown user


def _split_precision(text: str) -> tuple[str, str | None]:
    """The text without its precision, and the precision; ``latest`` is removed too.

    Raises:
        InvalidReferenceError: what follows the last colon is not a precision and resembles one.
    """
    if _is_existing_path(text):
        return text, None
    name, _, word = text.rpartition(":")
    if _ends_with_precision(text):
        return name, None if word.lower() == _LATEST else word
    if "://" in text or text.split("/")[0].lower() in PUBLIC_HUB_HOSTS:
        if names_precision(word) and not _is_pathlike(word):
            hint = f"In place of the URL, write the model's name with the precision: org/name:{word}."
            raise _invalid(text, "a URL names no precision", hint)
        return text, None
    word, at, revision = word.partition("@")
    if at and name and names_precision(word) and not _is_local(name) and not _is_scheme(name):
        raise _invalid(text, "the precision follows the revision", f"Write {name}@{revision}:{word}.")
    if not at and name and _could_be_precision(name, word):
        raise _invalid(text, f"{word!r} is not a precision", precisions_hint(word))
    return text, None


def _ends_with_precision(text: str) -> bool:
    """Whether the word after the last colon is a precision or ``latest``, and not part of a path, URL or scheme."""
    name, _, word = text.rpartition(":")
    if not (names_precision(word) or word.lower() == _LATEST) or "://" in text:
        return False
    if len(name) < 2 or _is_scheme(name) or text.split("/")[0].lower() in PUBLIC_HUB_HOSTS:
        return False  # one letter is a drive
    return not _is_existing_path(text)


def _could_be_precision(name: str, word: str) -> bool:
    """Whether an unknown word after a colon may be meant as a precision of the model or folder."""
    if len(name) < 2 or _is_pathlike(word) or not resembles_precision(word) or _is_scheme(name):
        return False
    return _exists(name) if _is_local(name) else ":" not in name.removeprefix("hf:")


def _is_pathlike(word: str) -> bool:
    return "/" in word or "\\" in word


def _is_scheme(name: str) -> bool:
    """Whether a name is a scheme, so that what follows its colon is a model."""
    if name in _SCHEMES:
        return True
    return _SCHEME_NAME.fullmatch(name) is not None and bool(entry_points(group="gpux.managers", name=name))


def _is_existing_path(text: str) -> bool:
    path = text.removeprefix("local:")
    return (path != text or _is_local(path)) and _exists(path)


def _parse_name(name: str, text: str) -> ModelRef:
    """Parse a reference without its precision; ``text`` is the whole reference, for messages."""
    if _is_local(name):
        return ModelRef("local", name)
    if "://" in name or name.split("/")[0].lower() in PUBLIC_HUB_HOSTS:
        return _parse_url(name)
    match = _SCHEME.match(name)
    if match and match[1] not in ("hf", "local"):
        id, _, revision = match[2].partition("@")
        if not id.strip():
            raise _invalid(text, "the name before the @ is empty")
        return ModelRef(match[1], id, revision or None)
    if match and match[1] == "local":
        return ModelRef("local", match[2])
    return _parse_hub_id(match[2] if match else name, text)


def _invalid(text: str, why: str, hint: str | None = None) -> InvalidReferenceError:
    text = _PASSWORD.sub("//", text)
    message = f"{text!r} is not a model reference: {why}\n{ACCEPTED_FORMS}"
    return InvalidReferenceError(message, hint=hint, reference=text)


def _wrong_kind(segments: list[str], text: str, endpoint: str | None) -> WrongKindError:
    kind, called, hint = _OTHER_KINDS[segments[0]]
    name = "/".join(segments[1:3])
    found = _invalid(text, f"it names {called}, and gpux runs models")
    details = {**found.details, "kind": kind, "id": name, "endpoint": endpoint}
    return WrongKindError(found.message, hint=hint.format(id=name), **details)


def _is_local(text: str) -> bool:
    if text.startswith((".", "/", "~", "\\")) or _DRIVE.match(text):
        return True
    if not text.lower().endswith(".onnx") or "://" in text or ":" in text:
        return False
    return text.count("/") < 2 or _exists(text)  # org/name/onnx/model.onnx names a file of a repository


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, no permission, a null byte, or no home folder
        return False


def _parse_url(text: str) -> ModelRef:
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
    except ValueError as exc:
        raise _invalid(text, "it is not a valid URL") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _invalid(text, "the URL is not http or https")
    endpoint = (
        None if parts.hostname.lower() in PUBLIC_HUB_HOSTS else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    )
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    if segments[:1] == ["models"]:
        segments = segments[1:]
    at = next((i for i, segment in enumerate(segments) if i in (1, 2) and segment in _PAGES), None)
    if at is None:
        ref = _parse_hub_id("/".join(segments), text, endpoint)
        if ref.file:
            raise _invalid(text, f"/{segments[2]} is not a page of a revision or file")
        return ref
    ref = _parse_hub_id("/".join(segments[:at]), text, endpoint)
    revision, file = _split_revision(segments[at + 1 :], is_file=segments[at] in ("blob", "resolve", "raw"))
    if not revision:
        raise _invalid(text, f"nothing follows /{segments[at]}/")
    if file:
        _check_file(file, text)
    return replace(ref, revision=revision, file=file)


def _split_revision(segments: list[str], *, is_file: bool) -> tuple[str, str | None]:
    """Revision and file from the path after ``/tree/`` or ``/blob/``; ``refs/pr/N`` has three segments."""
    width = 3 if segments[:1] == ["refs"] else 1
    file = "/".join(segments[width:]) if is_file else ""
    return "/".join(segments[:width]), file or None


def _parse_hub_id(name: str, text: str, endpoint: str | None = None) -> ModelRef:
    name, at, revision = name.partition("@")
    if at and not revision:
        raise _invalid(text, "the revision after the @ is empty")
    segments = name.split("/")
    if segments[0] in _OTHER_KINDS and len(segments) > 1:
        raise _wrong_kind(segments, text, endpoint)
    file = "/".join(segments[2:]) or None
    if file:
        _check_file(file, text)
    _check_hub_id(segments[:2], text)
    return ModelRef("hf", "/".join(segments[:2]), revision or None, file, endpoint)


def _check_file(file: str, text: str) -> None:
    try:
        check_path(file)
    except UnsafePathError as exc:
        raise _invalid(text, exc.message) from exc


def _check_hub_id(segments: list[str], text: str) -> None:
    """Check a name by the rules of the Hub, so that a typing error costs no request."""
    name = "/".join(segments)
    if not name or "" in segments:
        raise _invalid(text, "a part of the name is empty")
    if re.search(r"[^A-Za-z0-9._/-]", name):
        raise _invalid(text, "names consist of letters, digits, '-', '_' and '.'")
    if len(name) > 96:
        raise _invalid(text, "names have at most 96 characters")
    if "--" in name or ".." in name or name.endswith(".git"):
        raise _invalid(text, "names do not contain '--' or '..', and do not end in '.git'")
    if any(segment[0] in "-." or segment[-1] in "-." for segment in segments):
        raise _invalid(text, "a part of a name neither starts nor ends with '-' or '.'")


#: The argument type of every function that accepts a model.
Reference = str | os.PathLike[str] | ModelRef


def whole_model(ref: ModelRef) -> ModelRef:
    """The reference, if it names a whole model.

    Raises:
        UnsupportedError: it names one file of a model.
    """
    if ref.file is not None:
        raise UnsupportedError(
            f"{ref.id}: a pull stores a whole model, and the reference names one file, {ref.file}",
            hint=f"For the folder on this machine, write ./{ref.id}/{ref.file}."
            if Path(ref.id, ref.file).is_dir()
            else f"Run `gpux pull {ref}`.",
        )
    return ref
