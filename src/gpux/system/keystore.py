"""The system's key store (macOS Keychain, Windows Credential Locker, Secret Service) as a home for the token.

The only importer of keyring (https://keyring.readthedocs.io), which comes with the extra ``keyring``. An empty file
beside the token file marks that the key store is in use, so that nobody else pays for looking.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from gpux.errors import NotWritableError, StorageError
from gpux.system.disk import disk_errors

SERVICE = "gpux: Hugging Face token"  #: the entry's name in the key store; its account is the token file's path
INSTALL_HINT = "Install it with `pip install 'gpux[keyring]'`."


def key_store_mark(token_path: Path) -> Path:
    """The empty file that says: the token that would be in ``token_path`` is in the system's key store."""
    return token_path.with_name(f"{token_path.name}.keyring")


def has_key_store_mark(token_path: Path) -> bool:
    """True if that file is there, and ours to see."""
    try:
        return key_store_mark(token_path).exists()
    except OSError:  # a folder that this user may not enter
        return False


def read(token_path: Path) -> str | None:
    """The token that stands for the one in ``token_path``; None where the key store has none.

    Raises:
        StorageError: the key store is locked, gone, or keyring is not installed.
    """
    with _key_store_errors(StorageError, "does not hand out the token") as keyring:
        found: str | None = keyring.get_password(SERVICE, str(token_path))
        return found


def keep(token_path: Path, token: str) -> str:
    """Put the token there, and the mark beside ``token_path``; the key store's name.

    Raises:
        NotWritableError: the key store refuses, keeps nothing, or keyring is not installed.
    """
    with _key_store_errors(NotWritableError, "does not take the token") as keyring:
        keyring.set_password(SERVICE, str(token_path), token)
        kept = keyring.get_password(SERVICE, str(token_path))
    if kept != token:  # keyring's null backend takes everything and keeps nothing
        raise NotWritableError(f"the key store ({name()}) did not keep the token", hint="Log in without --keyring.")
    with disk_errors(token_path.parent, hint="Make the folder writable, or let HF_HOME name another one."):
        token_path.parent.mkdir(parents=True, exist_ok=True)
        key_store_mark(token_path).touch(mode=0o600)
    return name()


def forget(token_path: Path) -> str | None:
    """Remove what :func:`keep` left; the key store's name, or None where there was nothing.

    Raises:
        StorageError: the key store refuses, or keyring is not installed any more.
    """
    if not has_key_store_mark(token_path):
        return None
    with _key_store_errors(StorageError, "does not remove the token") as keyring:
        with suppress(keyring.errors.PasswordDeleteError):  # removed by other means: as wished
            keyring.delete_password(SERVICE, str(token_path))
        if keyring.get_password(SERVICE, str(token_path)) is not None:
            raise StorageError("the key store kept the token", hint=f"Remove {SERVICE!r} with the system's own tool.")
    with disk_errors(token_path.parent, hint="Make the folder writable."):
        key_store_mark(token_path).unlink(missing_ok=True)
    return name()


def name() -> str:
    """What the key store calls itself, e.g. ``macOS Keyring``."""
    with _key_store_errors(StorageError, "is not to be found") as keyring:
        return str(keyring.get_keyring().name)


@contextmanager
def _key_store_errors(kind: type[StorageError], what: str) -> Iterator[ModuleType]:
    """The library, loaded; what it raises becomes ours."""
    try:
        import keyring
        import keyring.errors
    except ImportError as exc:
        raise kind("the system's key store needs keyring, which is not installed", hint=INSTALL_HINT) from exc
    try:
        yield keyring
    except keyring.errors.KeyringError as exc:
        raise kind(
            f"the system's key store {what}: {exc or type(exc).__name__}",
            hint="Unlock it, or use the token file: `gpux auth login` without --keyring.",
        ) from exc
