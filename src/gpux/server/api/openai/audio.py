"""``/v1/audio/transcriptions`` and ``/v1/audio/translations``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta
from starlette.responses import PlainTextResponse, Response

from gpux.errors import InputError, UsageError
from gpux.server.api.endpoint import Call
from gpux.server.api.openai.parameters import check, refused, supported
from gpux.server.api.openai.transcripts import as_srt, as_vtt, verbose
from gpux.server.http import Form, convert_fields, json_response, read_form, until_disconnected
from gpux.server.models import Loaded
from gpux.server.workers.messages import Answer

TASKS = ("automatic-speech-recognition",)
T = TypeVar("T", bound="SpeechRequest")
#: Parameters that a form repeats, with or without brackets after the name.
_LISTS = frozenset({"timestamp_granularities"})
_TIMED = ("srt", "vtt", "verbose_json")
_ENGLISH = ("en", "english")


class SpeechRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of a form that both endpoints have."""

    file: Annotated[
        Any, supported("wav, flac, ogg or mp3; mp4, m4a and webm where the server has PyAV; its name is not used")
    ] = None
    model: Annotated[str, supported("reference of a stored model of automatic-speech-recognition")]
    prompt: Annotated[str | None, supported("Whisper: text before the sound, such as names that are spoken")] = None
    response_format: Annotated[
        Literal["json", "text", "srt", "verbose_json", "vtt"] | None,
        supported("`json` by default; `srt`, `vtt` and `verbose_json` need a Whisper model that gives times"),
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        supported("0: the likeliest text, by default; it is raised only where the model's own files say so"),
    ] = None


class TranscriptionRequest(SpeechRequest, kw_only=True, forbid_unknown_fields=True):
    """The form of a transcription; see :mod:`gpux.server.api.openai.parameters`."""

    language: Annotated[
        str | None, supported("Whisper: `de` or `german`; by default the language is found from the sound")
    ] = None
    timestamp_granularities: Annotated[
        list[Literal["word", "segment"]] | None,
        supported("of `verbose_json`: `segment` by default; `word` where the variant returns its cross-attention"),
    ] = None

    stream: Annotated[bool | None, refused("omit it; the text is sent when it is complete", False)] = None
    chunking_strategy: Annotated[Any, refused("omit it; long sounds are read in windows of the model's length")] = None
    include: Annotated[Any, refused("`verbose_json` has the mean log probability of each segment")] = None
    keywords: Annotated[Any, refused("write them into `prompt`")] = None
    languages: Annotated[Any, refused("name one as `language`, or none")] = None
    known_speaker_names: Annotated[Any, refused("speakers are not distinguished")] = None
    known_speaker_references: Annotated[Any, refused("speakers are not distinguished")] = None


class TranslationRequest(SpeechRequest, kw_only=True, forbid_unknown_fields=True):
    """The form of a translation."""


async def transcriptions(call: Call) -> Response:
    """The text of a sound in its own language."""
    form = await read_form(call.request, call.core.settings)
    body = _fields(form, TranscriptionRequest)
    granularities = body.timestamp_granularities
    if granularities and body.response_format != "verbose_json":
        raise UsageError(
            "timestamp_granularities needs response_format=verbose_json",
            hint="Set it, or omit timestamp_granularities.",
            param="timestamp_granularities",
        )
    kinds = granularities or ["segment"]
    return await _respond(call, form, body, body.language, words="word" in kinds, segments="segment" in kinds)


async def translations(call: Call) -> Response:
    """The text of a sound in English."""
    form = await read_form(call.request, call.core.settings)
    return await _respond(call, form, _fields(form, TranslationRequest), None, translate=True)


def _fields(form: Form, kind: type[T]) -> T:
    found: dict[str, Any] = {}
    for name, values in form.fields.items():
        plain, bracket, _ = name.partition("[")
        if plain in _LISTS:
            found[plain] = [*found.get(plain, ()), *values]
        elif bracket or any(values):  # an empty text is the same as no field
            found[plain] = values[0] if bracket else form.field(name)
    found.pop("file", None)  # a text; the intake of files says what is the matter
    body = convert_fields(found, kind)
    check(body)
    return body


async def _respond(
    call: Call,
    form: Form,
    body: SpeechRequest,
    language: str | None,
    *,
    words: bool = False,
    segments: bool = True,
    translate: bool = False,
) -> Response:
    data = call.core.media.upload(form, "file")
    format = body.response_format or "json"
    options: dict[str, Any] = {"prompt": body.prompt, "temperature": body.temperature or None}
    if format in _TIMED:
        options["return_segments"] = True
    if words:
        options["return_timestamps"] = "word"
    if translate:
        options["translate"] = True

    async def answer() -> Any:
        async with call.core.models.lease(body.model, TASKS) as loaded:
            _check(loaded, body, language, words=words, translate=translate)
            named = None if _knows_english_only(loaded, language) else language
            return (await call.core.answer(loaded, Answer(0, [data], {**options, "language": named}))).answers[0]

    try:
        found = await until_disconnected(call.request, answer())
    except InputError as error:
        message = error.message.replace("sound 0", "the file", 1)
        raise type(error)(message, hint=error.hint, **{"param": "file", **error.details}) from error
    return _response(found, format, words=words, segments=segments, translate=translate)


def _speech(loaded: Loaded) -> Mapping[str, Any]:
    """What the model can do; see :attr:`AutomaticSpeechRecognitionPipeline.speech`."""
    found: Mapping[str, Any] = loaded.worker.info.outputs.get("speech") or {}
    return found


def _knows_english_only(loaded: Loaded, language: str | None) -> bool:
    """Whether the language is the only one of the model, which therefore takes none."""
    return language is not None and language.lower() in _ENGLISH and not _speech(loaded).get("multilingual", True)


def _check(loaded: Loaded, body: SpeechRequest, language: str | None, *, words: bool, translate: bool) -> None:
    """Refuse what the model cannot do, by the name of the parameter.

    Raises:
        UsageError: it cannot.
    """
    speech = _speech(loaded)
    times = speech.get("timestamps", ())
    if not speech.get("takes_language", True):
        for name, value in (("language", language), ("prompt", body.prompt), ("temperature", body.temperature)):
            if value:
                raise UsageError(
                    f"{loaded.name} takes no {name}", hint=f"Omit {name}, or name a Whisper model.", param=name
                )
    if translate and "translate" not in speech.get("tasks", ()):
        raise UsageError(
            f"{loaded.name} does not translate", hint="Name a Whisper model of many languages.", param="model"
        )
    if body.response_format in _TIMED and "segment" not in times:
        raise UsageError(
            f"{loaded.name} gives no times of segments, which {body.response_format} needs",
            hint="Request json or text, or name a Whisper model.",
            param="response_format",
        )
    if words and "word" not in times:
        raise UsageError(
            f"{loaded.name} gives no times of words: its decoder does not return its cross-attention, or its files"
            " name no alignment heads",
            hint="Request segment, or convert the weights again with the newest gpux.",
            param="timestamp_granularities",
        )


def _response(found: Mapping[str, Any], format: str, *, words: bool, segments: bool, translate: bool) -> Response:
    text = found["text"].strip()
    if format == "json":
        return json_response({"text": text})
    if format == "text":
        return PlainTextResponse(text + "\n")
    if format == "srt":
        return PlainTextResponse(as_srt(found["segments"]))
    if format == "vtt":
        return PlainTextResponse(as_vtt(found["segments"]), media_type="text/vtt")
    return json_response(verbose(found, text, words=words, segments=segments, translate=translate))
