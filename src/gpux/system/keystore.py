"""The system's key store (macOS Keychain, Windows Credential Locker, Secret Service) for tokens and keys.

The only importer of keyring (https://keyring.readthedocs.io), which the extra ``keyring`` installs. An empty file
beside the Hugging Face token file marks that the key store is in use; without the file, keyring is not imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from gpux.errors import NotWritableError, StorageError
from gpux.system.disk import disk_errors

SERVICE = "gpux: Hugging Face token"  #: name of the entry in the key store; its account is the path of the token file
ENTRIES = "gpux"  #: name, in the key store, of keys that the user stored with `keyring set gpux NAME`
INSTALL_HINT = "Install it with `pip install 'gpux[keyring]'`."


def key_store_mark(token_path: Path) -> Path:
    """The empty file that marks that the token is in the key store in place of ``token_path``."""
    return token_path.with_name(f"{token_path.name}.keyring")


def has_key_store_mark(token_path: Path) -> bool:
    """Whether the mark exists and is readable."""
    try:
        return key_store_mark(token_path).exists()
    except OSError:  # a folder that this user may not enter
        return False


def read(token_path: Path) -> str | None:
    """The token in the key store, for ``token_path``; None if the key store has none.

    Raises:
        StorageError: the key store is locked or missing, or keyring is not installed.
    """
    with _key_store_errors(StorageError, "did not return the token") as keyring:
        found: str | None = keyring.get_password(SERVICE, str(token_path))
        return found


def read_entry(name: str) -> str | None:
    """The key that the user stored as ``name`` below :data:`ENTRIES`; None if there is no such entry.

    Raises:
        StorageError: the key store is locked or missing, or keyring is not installed.
    """
    with _key_store_errors(StorageError, "did not return the key") as keyring:
        found: str | None = keyring.get_password(ENTRIES, name)
        return found


def keep(token_path: Path, token: str) -> str:
    """Store the token in the key store, and create the mark; returns the name of the key store.

    Raises:
        NotWritableError: the key store does not store the token, or keyring is not installed.
    """
    with _key_store_errors(NotWritableError, "did not store the token") as keyring:
        keyring.set_password(SERVICE, str(token_path), token)
        kept = keyring.get_password(SERVICE, str(token_path))
    if kept != token:  # keyring's null backend accepts every password and stores none
        raise NotWritableError(f"the key store ({name()}) did not store the token", hint="Log in without --keyring.")
    with disk_errors(token_path.parent, hint="Make the folder writable, or set HF_HOME to another one."):
        token_path.parent.mkdir(parents=True, exist_ok=True)
        key_store_mark(token_path).touch(mode=0o600)
    return name()


def forget(token_path: Path) -> str | None:
    """Remove the token and the mark; returns the name of the key store, or None if it was not in use.

    Raises:
        StorageError: the key store does not remove the token, or keyring is not installed.
    """
    if not has_key_store_mark(token_path):
        return None
    with _key_store_errors(StorageError, "did not remove the token") as keyring:
        with suppress(keyring.errors.PasswordDeleteError):  # removed by other means
            keyring.delete_password(SERVICE, str(token_path))
        if keyring.get_password(SERVICE, str(token_path)) is not None:
            raise StorageError(
                "the key store still has the token", hint=f"Remove {SERVICE!r} with the system's own tool."
            )
    with disk_errors(token_path.parent, hint="Make the folder writable."):
        key_store_mark(token_path).unlink(missing_ok=True)
    return name()


def name() -> str:
    """The name of the key store, e.g. ``macOS Keyring``."""
    with _key_store_errors(StorageError, "cannot be found") as keyring:
        return str(keyring.get_keyring().name)


@contextmanager
def _key_store_errors(kind: type[StorageError], what: str) -> Iterator[ModuleType]:
    """Import keyring, and map its exceptions to gpux errors."""
    try:
        import keyring  # optional: the extra `keyring`
        import keyring.errors
    except ImportError as exc:
        raise kind("the system's key store needs keyring, which is not installed", hint=INSTALL_HINT) from exc
    try:
        yield keyring
    except keyring.errors.KeyringError as exc:
        raise kind(
            f"the system's key store {what}: {exc or type(exc).__name__}",
            hint="Unlock it, or use the token file (`gpux auth login` without --keyring), or a variable for a key.",
        ) from exc
