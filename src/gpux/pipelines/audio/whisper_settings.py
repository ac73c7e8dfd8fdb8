"""What the files of a Whisper model say about its decoder: tokens, limits, heads, and what a call overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from gpux.errors import UnsupportedError, UsageError
from gpux.model.json_file import read_optional_json
from gpux.model.variant import StoredModel
from gpux.pipelines.audio.languages import CODES, LANGUAGES

#: Options of a call that ``generation_config.json`` may set.
_DEFAULTS = (
    "return_timestamps",
    "language",
    "task",
    "logprob_threshold",
    "compression_ratio_threshold",
    "no_speech_threshold",
    "condition_on_prev_tokens",
)


@dataclass(frozen=True)
class WhisperSettings:
    """Of ``generation_config.json`` and ``config.json``; None where neither has it."""

    model: str
    start: int
    end: int
    vocabulary: int
    places: int  #: of the encoder's output
    target_places: int  #: tokens of the decoder
    filter_width: int  #: of the median filter over cross-attention
    no_timestamps: int | None
    languages: Mapping[str, int] | None  #: ``<|en|>`` -> token
    tasks: Mapping[str, int] | None
    multilingual: bool | None
    forced: Sequence[tuple[int, int | None]]  #: place and token after the start token
    previous: int | None  #: the token before text that the decoder continues
    heads: tuple[tuple[int, int], ...] | None  #: layer and head
    most_initial: int | None  #: largest index of the first timestamp
    defaults: Mapping[str, Any]  #: values for the options of a call

    @classmethod
    def of(cls, model: StoredModel) -> Self:
        """Read them.

        Raises:
            UnsupportedError: the start token is missing.
        """
        config = model.read_json("config.json")
        found = read_optional_json(model.path / "generation_config.json")
        start = _token(found.get("decoder_start_token_id", config.get("decoder_start_token_id")))
        end = _token(found.get("eos_token_id", config.get("eos_token_id")))
        if start is None or end is None:
            raise UnsupportedError(
                f"the configuration of {model.id} has no decoder_start_token_id or no eos_token_id",
                hint="Compare generation_config.json with that of the original model.",
            )
        suppressed: Sequence[int] = found.get("suppress_tokens") or config.get("suppress_tokens") or []
        previous = found.get("prev_sot_token_id")
        if previous is None and len(suppressed) >= 2:
            previous = suppressed[-2]  # as transformers guesses
        heads = found.get("alignment_heads")
        forced = found.get("forced_decoder_ids") or config.get("forced_decoder_ids") or ()
        return cls(
            model=model.id,
            start=start,
            end=end,
            vocabulary=int(config["vocab_size"]),
            places=int(config.get("max_source_positions") or 1500),
            target_places=int(config.get("max_target_positions") or 448),
            filter_width=int(config.get("median_filter_width") or 7),
            no_timestamps=_token(found.get("no_timestamps_token_id")),
            languages=found.get("lang_to_id"),
            tasks=found.get("task_to_id"),
            multilingual=found.get("is_multilingual"),
            forced=[(place, token) for place, token in forced],
            previous=_token(previous),
            heads=None if heads is None else tuple((int(layer), int(head)) for layer, head in heads),
            most_initial=found.get("max_initial_timestamp_index"),
            defaults={name: found[name] for name in _DEFAULTS if found.get(name) is not None},
        )

    @property
    def first_timestamp(self) -> int:
        """The token of 0.00 seconds; beyond the vocabulary, for a model without timestamps."""
        return self.vocabulary + 1 if self.no_timestamps is None else self.no_timestamps + 1

    def check(self, *, language: str | None, task: str | None, timestamps: bool) -> None:
        """Check what a call asks for.

        Raises:
            UsageError: the model does not have it.
        """
        if self.multilingual is False and not (language is None and task is None):
            raise UsageError(
                f"{self.model} transcribes English only, and takes no language and no task",
                hint="Remove them, or take a multilingual model.",
                param="language" if language is not None else None,
            )
        if language is not None:
            self.language_token(language)
        if task is not None and task not in (self.tasks or ()):
            raise UsageError(
                f"{self.model} has no task {task!r}", hint=f"It has: {', '.join(self.tasks or ()) or 'none'}."
            )
        if timestamps and self.no_timestamps is None:
            raise UsageError(
                f"generation_config.json of {self.model} has no no_timestamps_token_id, so it gives no timestamps",
                hint="Remove return_timestamps, or copy that value from the original model.",
            )

    def language_token(self, language: str) -> int:
        """The token of a language: a name, a code, or the token's text.

        Raises:
            UsageError: the model has no such language.
        """
        known = self.languages or {}
        plain = language.lower()
        code = CODES.get(plain, plain)
        for name in (plain, f"<|{code}|>"):
            if name in known:
                return known[name]
        names = ", ".join(LANGUAGES.get(token[2:-2], token[2:-2]) for token in known)
        raise UsageError(
            f"{self.model} has no language {language!r}", hint=f"It has: {names or 'none'}.", param="language"
        )

    def language_name(self, token: int) -> str | None:
        """The name of a language's token."""
        found = next((text for text, known in (self.languages or {}).items() if known == token), "")
        return LANGUAGES.get(found[2:-2])

    def detects(self, language: str | None, task: str | None) -> bool:
        """Whether the language has to be found from the sound."""
        begun = self._begun(language, task)
        return language is None and self.languages is not None and (len(begun) < 2 or begun[1] is None)

    def begin(self, *, language: int | None, named: bool, task: str | None, timestamps: bool) -> list[int]:
        """The decoder's first tokens: start, language, task, and whether it gives timestamps.

        Args:
            language: token of the language; None: as the files say.
            named: the caller or the files named the language, rather than the sound.
            task: of the call.
            timestamps: whether they are generated.
        """
        begun = self._begun("" if named else None, task)
        if language is not None:
            begun = [begun[0], language, *begun[2:]]
        tasks = self.tasks or {}
        if task is not None:
            begun.append(tasks[task])
        elif named and tasks and not any(token in begun for token in tasks.values()):
            begun.append(tasks["transcribe"])
        if self.no_timestamps is not None:
            if timestamps and begun[-1] == self.no_timestamps:
                begun.pop()
            elif not timestamps and begun[-1] != self.no_timestamps:
                begun.append(self.no_timestamps)
        return [token for token in begun if token is not None]

    def _begun(self, language: str | None, task: str | None) -> list[int | None]:
        """The start token and, where neither language nor task is named, those that the files force after it."""
        begun: list[int | None] = [self.start]
        if language is None and task is None and self.forced and self.forced[0][0] == 1:
            for place, (index, token) in enumerate(self.forced, 1):
                if index != place:
                    raise UnsupportedError(
                        f"forced_decoder_ids of {self.model} have no token at {place}",
                        hint="Name the language and the task.",
                    )
                begun.append(token)
        return begun


def _token(value: Any) -> int | None:
    """A token id; of a list, the first."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, int) else None
