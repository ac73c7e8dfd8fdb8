"""File contents: `/{id}/resolve/{rev}/{path}` at the origin, signed URLs at the CDN.

A regular file is answered by the origin itself. An LFS file is a redirect to the CDN, and everything that a
client learns about it (commit, hash, size) is in the headers of that redirect, not in the CDN's answer.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from urllib.parse import quote, urlencode

from tests.hub.contents import Blob
from tests.hub.messages import Body, HubError, Reply, Request, json_reply, redirect
from tests.hub.repository import Repository, Revision

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def find_blob(revision: Revision, path: str) -> Blob:
    """The file at a path. Raises HubError (404): the client notes the absence under the commit named in it.

    The path is looked up among the commit's files and never joined to a folder.
    """
    blob = revision.commit.files.get(path)
    if blob is None:
        raise HubError(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": revision.commit.sha})
    return blob


def send_regular(request: Request, revision: Revision, blob: Blob) -> Reply:
    """The content of a regular file, or a range of it."""
    headers = {
        "X-Repo-Commit": revision.commit.sha,
        "ETag": f'"{blob.oid}"',
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Disposition": _disposition(blob),
    }
    return _send_file(request, blob, headers)


def redirect_to_cache(request: Request, repository: Repository, revision: Revision, blob: Blob) -> Reply:
    """The real Hub's answer for a regular file: a relative redirect to a URL that names the commit."""
    path = f"/api/resolve-cache/models/{quote(repository.id)}/{revision.commit.sha}/{quote(blob.path)}"
    query = f"{quote(request.path, safe='')}=&etag=%22{blob.oid}%22"
    return redirect(307, f"{path}?{query}", {"X-Repo-Commit": revision.commit.sha})


class Cdn:
    """Issues and serves signed URLs: anyone who has one may read the object until it expires."""

    def __init__(self) -> None:
        self.base_url = ""
        self._blobs: dict[str, Blob] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()
        self.expire_all()

    def expire_all(self) -> None:
        """Makes all URLs that were issued so far invalid."""
        self._key = secrets.token_bytes(16)

    def redirect(self, repository: Repository, revision: Revision, blob: Blob, lifetime: float) -> Reply:
        """The redirect of an LFS file; its URL is valid for `lifetime` seconds."""
        digest = blob.etag
        self._blobs[digest] = blob
        shelf = hashlib.sha256(repository.id.encode()).hexdigest()
        path = f"/repos/{digest[:2]}/{digest[2:4]}/{shelf}/{digest}"
        disposition = _disposition(blob)
        signed = {
            "response-content-disposition": disposition,
            "expires": f"{time.time() + lifetime:.3f}",
            "nonce": secrets.token_hex(8),
        }
        signed["signature"] = self._sign(path, signed["expires"], disposition)
        headers = {
            "X-Repo-Commit": revision.commit.sha,
            "X-Linked-ETag": f'"{digest}"',
            "X-Linked-Size": str(blob.size),
            "ETag": f'"{blob.oid}"',
            "Accept-Ranges": "bytes",
        }
        return redirect(302, f"{self.base_url}{path}?{urlencode(signed)}", headers)

    def answer(self, request: Request, *, once: bool = False) -> Reply:
        """The object of a signed URL. The reply to an invalid or expired URL is 403, with the XML of an object store.

        With `once`, a URL expires with its first use.
        """
        disposition = request.value("response-content-disposition") or ""
        expires = request.value("expires") or ""
        signature = self._sign(request.path, expires, disposition)
        if not hmac.compare_digest(signature, request.value("signature") or ""):
            return _denied("SignatureDoesNotMatch")
        if float(expires) < time.time():
            return _denied("AccessDenied")
        if once:
            with self._lock:
                if request.target in self._used:
                    return _denied("AccessDenied")
                self._used.add(request.target)
        blob = self._blobs.get(request.segments[-1])
        if blob is None:
            return _denied("NoSuchKey")
        headers = {"ETag": f'"{blob.etag[:32]}"', "Content-Type": "application/octet-stream"}
        return _send_file(request, blob, {**headers, "Content-Disposition": disposition})

    def _sign(self, path: str, expires: str, disposition: str) -> str:
        return hmac.new(self._key, f"{path}\n{expires}\n{disposition}".encode(), "sha256").hexdigest()


def _send_file(request: Request, blob: Blob, headers: dict[str, str]) -> Reply:
    """The file or the requested range: 206, 416 beyond the end, 200 for anything but a single range."""
    body = Body.of(blob.file, blob.size)
    headers = {**headers, "Accept-Ranges": "bytes"}
    unchanged = request.headers.get("If-Range") in (None, headers["ETag"])
    match = _RANGE.fullmatch(request.headers.get("Range", "").strip()) if unchanged else None
    if match is None or not any(match.groups()):
        return Reply(200, headers, body)
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, blob.size) if last else blob.size
    else:
        start, stop = max(blob.size - int(last), 0), blob.size
    if first and last and int(last) < int(first):
        return Reply(200, headers, body)
    if start >= blob.size:
        text = {"error": "Requested range not satisfiable"}
        return json_reply(text, {"Content-Range": f"bytes */{blob.size}"}, 416)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
    return Reply(206, headers, body.between(start, stop))


def _disposition(blob: Blob) -> str:
    """The header that names the file; clients find the name only if a `;` follows it."""
    name = blob.path.rsplit("/", 1)[-1]
    plain = "".join(char if " " <= char <= "~" and char not in '"\\' else "_" for char in name)
    return f"inline; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\";"


def _denied(code: str) -> Reply:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    return Reply(403, {"Content-Type": "application/xml"}, Body.of(text.encode()))
