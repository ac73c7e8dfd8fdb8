"""How a server is set up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gpux.errors import UsageError
from gpux.system.settings import Settings

#: The port that the documents of the legacy API use.
PORT = 5000


@dataclass(frozen=True)
class ServerSettings:
    """Everything that decides what a server does; sizes in bytes, times in seconds.

    Raises:
        UsageError: a value is out of its range.
    """

    host: str = "127.0.0.1"
    port: int = PORT  #: 0: any free one
    models: tuple[str, ...] = ()  #: references that are loaded at the start, and that ``/readyz`` waits for
    device: str | int = "auto"
    #: references of models that answer the paths of text-embeddings-inference, the first one of the task each
    tei_models: tuple[str, ...] = ()
    api_keys: Path | None = None  #: file of hashed keys; without it, no key is needed, and only loopback is bound
    allowed_hosts: tuple[str, ...] = ()  #: values of ``Host`` besides IP addresses and ``localhost``
    allowed_origins: tuple[str, ...] = ()  #: values of ``Origin`` besides the server's own
    max_memory: int | None = None  #: of all workers together; None: by the memory that is available
    max_models: int | None = None  #: loaded at the same time
    keep_alive: float = 300.0  #: until a model that is not used is unloaded; infinity: never
    allow_pull: bool = False  #: pull a model that is requested and not stored
    restore: bool = True  #: load the models again that were loaded when the server ended; not with port 0
    max_queue: int = 512  #: requests of one model that wait or run
    max_loads: int = 64  #: models that wait for memory at the same time
    load_timeout: float = 60.0  #: for memory to become free for a model
    open_timeout: float = 600.0  #: for a model's process to open it; infinity: no limit
    batch_wait: float = 0.003  #: that a request waits for others to share its batch
    max_rows: int = 8  #: sequences of one model that are generated at the same time
    cache_bytes: int | None = None  #: of the KV caches of one model; None: by the memory that is available
    max_body: int = 32 << 20  #: of a request
    body_timeout: float = 30.0  #: for a request's body to arrive
    send_timeout: float = 60.0  #: for a client to read a part of an answer
    max_connections: int = 1000  #: at the same time; more are answered with 503
    max_inputs: int = 2048  #: texts, prompts or files of a request
    max_text: int = 4 << 20  #: characters of one text
    max_media: int = 32 << 20  #: bytes of one picture or sound
    max_files: int = 64  #: pictures and sounds of a request
    max_pixels: int = 64 << 20  #: of one picture
    max_frames: int = 1000  #: of one animated picture
    max_seconds: float = 3600.0  #: of one sound, and of those that are in memory at once
    allow_media_urls: bool = False  #: fetch pictures and sounds from http(s) addresses in requests
    media_timeout: float = 20.0  #: for all such pictures and sounds of a request to arrive
    request_timeout: float | None = None  #: of one answer; None: no limit
    reader_pieces: int = 2048  #: of one answer that the client has not read, each a token or a few
    reader_seconds: float = 10.0  #: with more unread pieces until the answer is ended
    drain_timeout: float = 30.0  #: for running requests to end when the server stops
    without: frozenset[str] = frozenset()  #: names of parts (:mod:`gpux.server.parts`) that are not served
    access_log: str | None = "text"  #: ``text``, ``json`` or None
    gpux: Settings = field(default_factory=Settings.from_env)  #: folders, token, offline

    def __post_init__(self) -> None:
        at_least_one = ("max_queue", "max_loads", "max_rows", "max_body", "reader_pieces")
        media = ("max_media", "max_files", "max_pixels", "max_frames", "max_seconds", "media_timeout")
        for name in (*at_least_one, "max_connections", "max_inputs", "max_text", *media):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, and must be at least 1")
        for name in ("max_memory", "max_models", "cache_bytes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"{name} is {value}, and must be at least 1")
        if not 0 <= self.port <= 65535:
            raise UsageError(f"the port is {self.port}, and must be between 0 and 65535")
        if self.access_log not in ("text", "json", None):
            raise UsageError(f"access_log is {self.access_log!r}", hint="It may be text, json or None.")
