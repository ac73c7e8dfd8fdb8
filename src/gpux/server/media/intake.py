"""The bytes of the pictures and sounds of a request, in whatever form it has them."""

from __future__ import annotations

import asyncio
import binascii
import re
from collections.abc import Mapping
from typing import Any

from gpux.errors import DeadlineError, InputError, TooLargeError, UsageError
from gpux.server.http import Form, FormFile
from gpux.server.media.fetch import Fetcher, together_too_large
from gpux.server.settings import ServerSettings

_HEADER = re.compile(r"data:[a-z0-9.+/-]*(?:;[a-z0-9.+-]+=[a-z0-9.+-]+)*;base64", re.IGNORECASE)
#: Characters of base64 from which on a thread decodes it.
_LARGE = 1 << 20


class Media:
    """Takes in pictures and sounds.

    Args:
        settings: with the limits.
        fetcher: for addresses; by default one for public addresses, where the settings allow that.
    """

    def __init__(self, settings: ServerSettings, fetcher: Fetcher | None = None) -> None:
        self._settings = settings
        if fetcher is None and settings.allow_media_urls:
            fetcher = Fetcher(settings.max_media, settings.media_timeout)
        self._fetcher = fetcher

    async def read(self, given: str | bytes, param: str | None = None) -> bytes:
        """The bytes of one picture or sound.

        Args:
            given: bytes as they are, a data URL with base64, base64 alone, or an http(s) address.
            param: the parameter that has it, for errors.

        Raises:
            InputError: it is empty or not valid, or its address cannot be fetched.
            TooLargeError: it has more bytes than the server takes.
            UsageError: it is an address, and the server does not fetch any.
            DeadlineError: its address did not answer in time.
        """
        try:
            data = given if isinstance(given, bytes) else await self._text(given)
            return self._checked(data)
        except (InputError, TooLargeError, UsageError, DeadlineError) as error:
            if param is not None:
                error.details["param"] = param
            raise

    async def read_inputs(self, given: Any, param: str = "inputs") -> Any:
        """The inputs of a pipeline of pictures, sounds or videos, with bytes in place of texts.

        Texts are read as by :meth:`read`, also the one under ``image`` of an object. Addresses are fetched at the same
        time, with one deadline for all, after the other files were found valid. What is neither stays as it is, for
        the pipeline to check.

        Args:
            given: one input or a list of inputs.
            param: the parameter that has them, for errors; of a list, they name the place too: ``inputs[1]``.

        Raises:
            InputError, UsageError, DeadlineError: see :meth:`read`.
            TooLargeError: a file is too large; there are too many, or together they have more bytes than a body may
                have, which addresses would allow otherwise.
        """
        several = isinstance(given, list)
        items: list[Any] = given if several else [given]
        names = [f"{param}[{place}]" if several else param for place in range(len(items))]
        files = {name: file for name, item in zip(names, items, strict=True) if (file := _file_of(item)) is not None}
        self.check_count(len(files), param)
        try:
            found = await self._read_all(files)
        except (InputError, TooLargeError, UsageError, DeadlineError) as error:
            place = error.details.get("param")
            message = f"{place}: {error.message}" if several and place is not None else error.message
            raise type(error)(message, hint=error.hint, **{"param": param, **error.details}) from error
        # Clients in JavaScript send {"image": …} alone; with prompts of mask-generation, it is an object.
        inputs = [
            item
            if name not in found
            else {**item, "image": found[name]}
            if isinstance(item, Mapping) and len(item) > 1
            else found[name]
            for name, item in zip(names, items, strict=True)
        ]
        return inputs if several else inputs[0]

    async def _read_all(self, files: Mapping[str, str | bytes]) -> dict[str, bytes]:
        """The bytes of files by the parameter that has each; an error of one file names it as ``param``."""
        found: dict[str, bytes] = {}
        addresses: dict[str, str] = {}
        total, most = 0, max(self._settings.max_body, self._settings.max_media)
        for name, file in files.items():
            if isinstance(file, str) and self._fetcher is not None and _is_address(file):
                addresses[name] = file
                continue
            found[name] = await self.read(file, name)
            total += len(found[name])
            if total > most:
                raise together_too_large(most)
        if addresses and self._fetcher is not None:
            for name, data in (await self._fetcher.get_all(addresses, most, total)).items():
                found[name] = self._checked(data, name)
        return found

    def check_count(self, count: int, param: str | None = None) -> None:
        """Refuse a request with too many files.

        Raises:
            TooLargeError: it has more than the server takes.
        """
        most = self._settings.max_files
        if count > most:
            raise TooLargeError(
                f"the request has {count} pictures and sounds, and the server takes {most}",
                hint="Send several requests.",
                limit=most,
                **({} if param is None else {"param": param}),
            )

    def upload(self, form: Form, field: str) -> bytes:
        """The bytes of the one file of a form.

        Raises:
            UsageError: the form has none, or several.
            InputError: it is empty.
            TooLargeError: it has more bytes than the server takes.
        """
        if field in form.fields:
            raise UsageError(f"{field} is a text, not a file", hint=f"curl: -F {field}=@NAME", param=field)
        found: list[FormFile] = [file for file in form.files if file.field == field]
        if other := next((file.field for file in form.files if file.field != field), None):
            raise UsageError(f"the form has a file {other}", hint=f"Send the file as {field}.", param=other)
        if len(found) != 1:
            raise UsageError(
                f"the form has {len(found)} files, and must have one", hint=f"Send it as {field}.", param=field
            )
        try:
            return self._checked(found[0].data)
        except (InputError, TooLargeError) as error:
            error.details["param"] = field
            raise

    async def _text(self, text: str) -> bytes:
        if _is_address(text):
            if self._fetcher is None:
                raise UsageError(
                    "the server fetches no addresses",
                    hint="Send the file itself as a data URL in base64, or start the server with --allow-media-urls.",
                )
            return await self._fetcher.get(text)
        content = text
        if text[:5].lower() == "data:":
            header, _, content = text.partition(",")
            if not _HEADER.fullmatch(header[:200]):
                raise InputError(
                    "a data URL is not in base64", hint="Write it as data:image/png;base64,… and encode the file."
                )
        if len(content) * 3 // 4 > self._settings.max_media + 2:
            raise self._too_large()
        if len(content) > _LARGE:
            return await asyncio.to_thread(_decoded, content)
        return _decoded(content)

    def _checked(self, data: bytes, param: str | None = None) -> bytes:
        if not data:
            details = {} if param is None else {"param": param}
            raise InputError("a file is empty (0 bytes)", hint="Send its content.", **details)
        if len(data) > self._settings.max_media:
            raise self._too_large()
        return data

    def _too_large(self) -> TooLargeError:
        most = self._settings.max_media
        return TooLargeError(
            f"a file has more than {most} bytes, the most that the server takes", hint="Make it smaller.", limit=most
        )


def _is_address(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def _file_of(item: Any) -> str | bytes | None:
    """The file of an input; None: it is given in another form."""
    found = item.get("image") if isinstance(item, Mapping) else item
    return found if isinstance(found, (str, bytes)) else None


def _decoded(content: str) -> bytes:
    try:
        return binascii.a2b_base64(content.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise InputError(
            "a file is not valid base64", hint="Encode it with padding and without line breaks: base64 -w0 FILE"
        ) from exc
