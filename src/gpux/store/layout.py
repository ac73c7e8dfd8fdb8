"""The folders of a store, and how ids become names that every file system accepts.

::

    root/CACHEDIR.TAG                    backup tools skip the folder
    root/models/<scheme>/<id>/<commit>/<task>--<precision>--<recipe>/   files + manifest.json
    root/refs/<scheme>/<id>/             alias.json, default.json, precision.json, revisions/<name>.json
    root/staging/<unique>/               variant/ and scratch/ of a running pull, which holds <unique>.lock
    root/trash/<unique>/                 removed, not deleted yet
    root/locks/                          one file per conversion

An id of plain parts stays readable: ``org/name`` becomes ``org--name``, which is unambiguous because a part with ``--``
is not plain. Other ids become ``<readable end>+<hash>``; plain names do not contain ``+``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gpux.model.variant import Recipe, VariantKey
from gpux.system.hashing import hash_bytes

_PLAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)  # names of devices on Windows
_DIGITS = 20  # of a hash, in the name of a lock file
_SLUG = 40  # characters of a hashed name that stay readable
_LONGEST = 96  # the Hub's own limit for org/name, far below every file system's


def quote_id(text: str) -> str:
    """A model id as a folder name; different ids have different names."""
    return _quote(text, text.split("/"))


def quote_part(text: str) -> str:
    """A commit, task, precision or recipe as (a part of) a folder name; different values have different names."""
    return _quote(text, [text])


def quote_revision(text: str) -> str:
    """A branch or tag as a file name; names with capitals are hashed, since some file systems ignore case."""
    return _quote(text, [text if text == text.lower() else ""])


def _quote(text: str, parts: list[str]) -> str:
    plain = "--".join(parts)
    if all(_PLAIN.fullmatch(part) and "--" not in part for part in parts) and len(plain) <= _LONGEST:
        return plain if not _DEVICES.match(plain) else _hashed(text)
    return _hashed(text)


def _hashed(text: str) -> str:
    digest = hash_bytes(text.encode("utf-8", "surrogatepass"), "sha256")[:20]
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower())[-_SLUG:].strip("-")
    return f"{slug or 'x'}+{digest}"


def stable_id(scheme: str, id: str) -> str:
    """The id under which records are stored: local paths are absolute, independent of the working directory."""
    return os.path.abspath(os.path.expanduser(id)) if scheme == "local" else id  # noqa: PTH100, PTH111 - keeps symlinks


def is_inside(path: str) -> bool:
    """Whether a path is relative, has forward slashes, and stays inside its folder on every operating system."""
    if not path or any(character in path for character in "\\:\0"):
        return False
    parts = path.split("/")
    return not PurePosixPath(path).is_absolute() and not any(part in ("", ".", "..") for part in parts)


@dataclass(frozen=True)
class Layout:
    """The paths of the store at ``root``; no method accesses the disk except :meth:`locks_of`."""

    root: Path

    @property
    def models(self) -> Path:
        """Folder of all variants."""
        return self.root / "models"

    @property
    def refs(self) -> Path:
        """Folder of recorded aliases and revisions."""
        return self.root / "refs"

    @property
    def staging(self) -> Path:
        """Folder of variants that running pulls build."""
        return self.root / "staging"

    @property
    def trash(self) -> Path:
        """Folder of removed folders that are being deleted."""
        return self.root / "trash"

    @property
    def locks(self) -> Path:
        """Folder of lock files."""
        return self.root / "locks"

    def model(self, scheme: str, id: str) -> Path:
        """Folder of all commits of a model."""
        return self.models / quote_part(scheme) / quote_id(id)

    def commit(self, scheme: str, id: str, commit: str) -> Path:
        """Folder of all variants of a commit."""
        return self.model(scheme, id) / quote_part(commit)

    def variant(self, key: VariantKey) -> Path:
        """Folder of a variant."""
        name = "--".join(quote_part(part) for part in (key.task, key.precision, key.recipe))
        return self.commit(key.scheme, key.id, key.commit) / name

    def key_of(self, folder: Path) -> VariantKey | None:
        """The key of the variant in a folder, from the folder's path; None where the path holds a hashed name.

        The recipe of a quantized variant is always hashed; what precedes the hash is read as converter and method.
        """
        parts = folder.relative_to(self.models).parts
        if len(parts) != 4:
            return None
        scheme, id, commit, name = parts
        words = name.split("--")
        if len(words) != 3 or any("+" in part for part in (scheme, id, commit, *words[:2])):
            return None
        recipe, hashed, _ = words[2].partition("+")
        if hashed:
            if len(recipe) == _SLUG:  # perhaps the end of a longer one
                return None
            recipe = recipe.replace("-", "+", 1)
        return VariantKey(scheme, id.replace("--", "/"), commit, words[0], words[1], Recipe(recipe))

    def variant_lock(self, scheme: str, id: str, commit: str, task: str, precision: str) -> Path:
        """Lock file of the conversions for a task and precision, with any recipe."""
        return self.lock_of(self.commit(scheme, id, commit) / f"{quote_part(task)}--{quote_part(precision)}--any")

    def lock_of(self, variant: Path) -> Path:
        """The lock file of :meth:`variant_lock`, from the path of a variant, whose manifest may be damaged."""
        name = variant.relative_to(self.models).as_posix().rpartition("--")[0]
        return self.locks / f"{variant.parts[-3]}--{hash_bytes(name.encode(), 'sha256')[:_DIGITS]}.lock"

    def locks_of(self, scheme: str, id: str) -> list[Path]:
        """The existing lock files of a model, and of a model with the same id in another scheme."""
        return sorted(self.locks.glob(f"{self.model(scheme, id).name}--{'?' * _DIGITS}.lock"))

    @property
    def refs_lock(self) -> Path:
        """Lock file of everything below :attr:`refs`."""
        return self.locks / "refs.lock"

    def ref_folder(self, scheme: str, id: str) -> Path:
        """Folder of the records for an id, canonical or not."""
        return self.refs / quote_part(scheme) / quote_id(id)

    def alias_file(self, scheme: str, requested_id: str) -> Path:
        """File with the canonical id."""
        return self.ref_folder(scheme, requested_id) / "alias.json"

    def precision_file(self, scheme: str, id: str) -> Path:
        """File with the precision that the user chose for references without one."""
        return self.ref_folder(scheme, id) / "precision.json"

    def revision_file(self, scheme: str, id: str, revision: str | None) -> Path:
        """File with the commit of a revision of a canonical id; None is the default branch."""
        folder = self.ref_folder(scheme, id)
        return (
            folder / "default.json" if revision is None else folder / "revisions" / f"{quote_revision(revision)}.json"
        )
