"""What the server and a worker send each other.

Server to worker: :class:`Open` once, then requests with an ``id`` of the server's choice, in any number at once, and
:class:`Cancel`, :class:`UseCores`. Worker to server: :class:`Ready` or :class:`Failed` for the start, and for each
request its replies in order, of which the last is not a :class:`Piece`. Times are durations in seconds, measured where
they pass, since clocks of two processes differ.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Tensor(msgspec.Struct, frozen=True):
    """An array as its bytes, little-endian, in row-major order; the server needs no numpy for it."""

    dtype: str  #: numpy name: ``float32``
    shape: tuple[int, ...]
    data: bytes


class Message(msgspec.Struct, tag_field="type", omit_defaults=True):
    """Base of all messages."""


# From the server


class Open(Message, tag="open"):
    """Open a stored variant; the first message."""

    path: str  #: folder of the variant
    task: str  #: of the pipeline
    device: str | int
    threads: int
    settings: dict[str, Any]  #: of the engine: max_rows, cache_bytes, batch_wait; max_pixels, max_frames, max_seconds


class Parsing(msgspec.Struct, frozen=True, omit_defaults=True):
    """How answers to chats are taken apart; the tools are ``options["tools"]`` of the request."""

    choice: str = "auto"  #: ``none``, ``auto``, ``required`` or ``function``
    function: str | None = None  #: the tool that must be called, with ``function``
    parallel: bool = True  #: an answer may have several calls
    strict: tuple[str, ...] = ()  #: tools whose calls have the arguments of their schemas, also with ``auto``


class Generate(Message, tag="generate"):
    """Generate texts; the replies are :class:`Piece` in any order of the sequences, then :class:`Generated`.

    Without ``pieces`` there are none, which saves both processes a message for each token of an answer that is sent
    whole.

    Sequence ``number`` is input number times ``num_return_sequences`` plus copy number.
    """

    id: int
    inputs: list[Any]  #: each a text, a list of messages, or a list of token ids
    options: dict[str, Any]  #: of the pipeline's call; ``None`` values stand for the model's defaults
    echo_tokens: bool = False  #: whether pieces carry token ids and log probabilities
    pieces: bool = True
    #: take reasoning and tool calls out of the texts, into ``Piece.parts``, ``Sequence.reasoning`` and ``.calls``
    parsing: Parsing | None = None


class Answer(Message, tag="answer"):
    """Answer inputs by the pipeline; the reply is :class:`Answered`."""

    id: int
    inputs: (
        Any  #: a list as the pipeline takes it, or, with ``as_call``, also a single input; bytes of pictures, sounds
    )
    options: dict[str, Any]
    as_call: bool = False  #: the shape of ``pipeline(inputs)``; else one JSON-able answer for each input
    #: another task of the same stored model: ``text-ranking`` of ``text-classification``; None: the opened one
    task: str | None = None


class Embed(Message, tag="embed"):
    """Vectors of whole texts; the reply is :class:`Embedded`.

    A text beyond the model's limit is cut, as sentence-transformers does, unless the options have
    ``{"truncation": False}``, which refuses it with its ``index``.
    """

    id: int
    texts: list[str]
    #: of ``encode``: truncate_dim, normalize, prompt_name (``query``, ``document`` and those of the repository),
    #: prompt, truncation, max_length
    options: dict[str, Any]


class Rank(Message, tag="rank"):
    """Scores of texts for a query; the reply is :class:`Ranked`.

    By a cross-encoder, or by the similarity of vectors where the model gives those.
    """

    id: int
    query: str
    texts: list[str]
    options: dict[
        str, Any
    ]  #: of a cross-encoder: activation_fn, max_length, truncation, prompt_name; else of ``encode``


class Tokenize(Message, tag="tokenize"):
    """Tokens of texts; the reply is :class:`Tokenized`."""

    id: int
    texts: list[str]
    add_special_tokens: bool = True


class Detokenize(Message, tag="detokenize"):
    """Texts of token ids; the reply is :class:`Detokenized`."""

    id: int
    ids: list[list[int]]
    skip_special_tokens: bool = True


class Count(Message, tag="count"):
    """Tokens of prompts, of texts and chats as :class:`Generate` takes them; the reply is :class:`Counted`."""

    id: int
    inputs: list[Any]
    options: dict[str, Any] = {}  #: that decide about the prompt: tools, chat_template_kwargs, add_special_tokens


class Cancel(Message, tag="cancel"):
    """End a request; its last reply comes nevertheless, as ``cancelled`` where nothing was answered."""

    id: int


class UseCores(Message, tag="cores"):
    """Run on these logical processors from now on."""

    cores: list[int]


class Close(Message, tag="close"):
    """End the process after what runs; what waits is cancelled."""


# From the worker


class Ready(Message, tag="ready"):
    """The model is open."""

    device: str
    batches: bool  #: requests at the same time share a batch
    context_length: int | None = None  #: tokens of prompt and answer
    chat: bool = False  #: there is a chat template
    #: what else the model can do: ``generate``, ``embed``, ``rank``, ``tokenize``, ``tools``, ``reasoning``,
    #: ``images``, ``sounds``
    capabilities: list[str] = []
    #: what else APIs want to know: ``dimensions`` of vectors, ``labels``, ``prompts``, ``max_length`` of a text,
    #: ``whole_texts``: the repository is one of sentence-transformers; the family of ``tools``: ``hermes``, ``llama``,
    #: ``mistral``, ``phi``, ``gemma`` or ``harmony``; of ``thinking`` the ``variable`` of the chat template that
    #: decides about it, and its ``levels``
    outputs: dict[str, Any] = {}


class Part(msgspec.Struct, omit_defaults=True):
    """A part of an answer; see :mod:`gpux.pipelines.chat.tools.events`, whose events have the same meaning."""

    kind: Literal["content", "reasoning", "call", "arguments", "end"]
    text: str = ""  #: of content, reasoning and arguments; of a call that ends incomplete, as the model wrote it
    index: int = 0  #: of the call in its answer
    id: str = ""  #: of a call that begins
    name: str = ""  #: of the tool of a call that begins
    complete: bool = True  #: of a call that ends: its arguments are a whole JSON object


class ToolCall(msgspec.Struct, omit_defaults=True):
    """A call of a tool in an answer."""

    id: str
    name: str
    arguments: str  #: JSON text of an object
    complete: bool = True  #: else the answer was cut within the arguments
    raw: str = ""  #: of a call that is not complete, as the model wrote it


class Piece(Message, tag="piece"):
    """The next text of one sequence."""

    id: int
    number: int
    text: str
    tokens: list[int] = []  #: with ``echo_tokens``
    scores: list[Any] = []  #: of each token, ``TokenScore`` as [token, logprob, [[token, logprob], ...]]
    names: list[str] = []  #: text of each token, then of each alternative, in order of ``scores``
    #: with ``parsing``: what the text is, in order; ``text`` is then that of the content alone
    parts: list[Part] = []
    count: int = 0  #: tokens of the sequence since its last piece, those without a text included


class Timing(msgspec.Struct, omit_defaults=True):
    """Where the time of a request went, in seconds."""

    queue: float = 0.0
    prefill: float = 0.0  #: until the first token, without the queue
    decode: float = 0.0
    run: float = 0.0  #: of other tasks
    batch: int = 1  #: requests that shared the batch at the end


class Sequence(msgspec.Struct, omit_defaults=True):
    """The end of one sequence."""

    text: str
    finish_reason: str  #: ``eos``, ``stop``, ``length``, ``cancelled``, ``deadline``
    tokens: int  #: generated, the end token included
    prompt_tokens: int
    cached_tokens: int = 0  #: of the prompt, that were not read again
    stopped_by: str | None = None
    #: with ``parsing``, apart from ``text``
    reasoning: str = ""
    reasoning_tokens: int = 0  #: tokens up to the end of the reasoning
    calls: list[ToolCall] = []

    @property
    def parts(self) -> list[Part]:
        """The parts of the answer, as pieces have them: its reasoning, its content, then its calls."""
        found = [Part("reasoning", self.reasoning)] if self.reasoning else []
        found += [Part("content", self.text)] if self.text else []
        for index, call in enumerate(self.calls):
            found.append(Part("call", index=index, id=call.id, name=call.name))
            found += [Part("arguments", call.arguments, index)] if call.arguments else []
            found.append(Part("end", call.raw, index, complete=call.complete))
        return found


class Generated(Message, tag="generated"):
    """All sequences of a request have ended."""

    id: int
    sequences: list[Sequence]
    timing: Timing


class Answered(Message, tag="answered"):
    """The answers to a request."""

    id: int
    answers: Any  #: JSON-able; arrays as :class:`Tensor` do not occur
    timing: Timing
    tokens: int = 0  #: of all inputs, where they are texts


class Embedded(Message, tag="embedded"):
    """The vectors of a request, float32 ``[texts, dimensions]``."""

    id: int
    vectors: Tensor
    tokens: int
    timing: Timing


class Ranked(Message, tag="ranked"):
    """The scores of a request, in the order of its texts."""

    id: int
    scores: list[float]
    tokens: int
    timing: Timing


class Tokenized(Message, tag="tokenized"):
    """The tokens of each text."""

    id: int
    ids: list[list[int]]
    pieces: list[list[str]]  #: as the vocabulary writes them: ``##ing``
    offsets: list[list[tuple[int, int]]]  #: characters of the text, the end excluded
    special: list[list[bool]]  #: tokens that the tokenizer added
    timing: Timing


class Detokenized(Message, tag="detokenized"):
    """The text of each list of ids."""

    id: int
    texts: list[str]
    timing: Timing


class Counted(Message, tag="counted"):
    """Tokens of each input."""

    id: int
    tokens: list[int]
    timing: Timing


class Failed(Message, tag="failed"):
    """A request, or the start (``id`` 0), has failed."""

    error: dict[str, Any]  #: ``GpuxError.to_dict()``
    id: int = 0


class Load(Message, tag="stats"):
    """What the worker is doing; sent when it changes, at most ten times a second."""

    running: int = 0  #: requests
    waiting: int = 0
    rows: int = 0  #: sequences of the current batch
    cache_bytes: int = 0
    steps: int = 0  #: decoding steps since the start
    batch_sizes: dict[int, int] = {}  #: requests of a batch -> number of batches since the last report


Request = Generate | Answer | Embed | Rank | Tokenize | Detokenize | Count
ToWorker = Open | Request | Cancel | UseCores | Close
#: The last reply to a request.
Last = Generated | Answered | Embedded | Ranked | Tokenized | Detokenized | Counted
FromWorker = Ready | Piece | Last | Failed | Load
