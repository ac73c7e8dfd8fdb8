"""Writes a tokenizer.json for repositories that have only the files of a slow tokenizer, if it is equal to that.

If it is not equal, none is written, with a warning: the model still runs on ids. With an unequal one the model would
silently have other answers than the original.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from gpux.convert.worker.tokenizer.effective import write_text
from gpux.convert.worker.tokenizer.proof import Difference, Original, differences
from gpux.model.json_file import parse_json, read_json
from gpux.system.worker_protocol import Events, Refused

TOKENIZER, TARGET = "tokenizer.json", "tokenizer_target.json"
#: Files of slow tokenizers.
SLOW_FILES = (
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tokenizer.model",
    "spm.model",
    "spm_char.model",
    "source.spm",
    "prophetnet.tokenizer",
)
NO_TEXT = "no tokenizer.json can be written, so text cannot be tokenized"
#: Tokenizers without files: their vocabulary is the bytes.
FILELESS = ("ByT5Tokenizer", "PerceiverTokenizer")


def write_fast_tokenizer(source: Path, output: Path, events: Events, *, trust_remote_code: bool) -> Any:
    """Write ``tokenizer.json`` into ``output`` for a source that has a slow tokenizer.

    A translation model with a vocabulary for each language also gets ``tokenizer_target.json``, which decodes the
    output. If no equal tokenizer is found, nothing is written and a warning gives the reason.

    Returns:
        transformers' slow tokenizer; None if nothing was written, or for a tokenizer that transformers does not have.

    Raises:
        Refused: a file of the tokenizer is damaged.
    """
    check_files(source)
    try:
        slow = _write(source, output, events, trust_remote_code=trust_remote_code)
    except Exception as exc:  # noqa: BLE001 - tokenizer classes raise anything if a file is missing
        line = " ".join(str(exc).split())
        events.warning(f"{NO_TEXT}: {type(exc).__name__}: {line[:300]}")
        return None
    return slow if (output / TOKENIZER).is_file() else None


def has_slow_files(source: Path) -> bool:
    """Whether a folder has the files of a slow tokenizer, or a class without files."""
    if any((source / name).is_file() for name in SLOW_FILES):
        return True
    return read_json(source / "tokenizer_config.json").get("tokenizer_class") in FILELESS


def check_files(source: Path) -> None:
    """Check that vocabularies can be read, because tokenizer classes raise anything for damaged files.

    Raises:
        Refused: a file is damaged.
    """
    for name in (*SLOW_FILES, "target.spm"):
        file = source / name
        if file.is_file():
            why = _damage(file)
            if why is not None:
                raise Refused(
                    "corrupt_file", f"{name} cannot be read: {why}", "Pull it again with `gpux pull --force`."
                )


def _damage(file: Path) -> str | None:
    data = file.read_bytes()
    if not data:
        return "it is empty"
    try:
        if file.suffix == ".json":
            parse_json(data)
        elif file.suffix == ".txt":
            data.decode()
        elif file.suffix in (".model", ".spm") and not _is_ranks(data):
            from sentencepiece import SentencePieceProcessor

            SentencePieceProcessor(model_proto=data)
    except (ValueError, RuntimeError) as exc:
        return str(exc)
    return None


def _is_ranks_file(file: Path) -> bool:
    return file.is_file() and _is_ranks(file.read_bytes())


def _is_ranks(data: bytes) -> bool:
    """Whether this is a file of tiktoken: lines of a token in base64 and its rank."""
    first = data.split(b"\n", 1)[0].split(b" ")
    return len(first) == 2 and first[1].strip().isdigit()


def _write(source: Path, output: Path, events: Events, *, trust_remote_code: bool) -> Any:
    if _is_ranks_file(source / "tokenizer.model"):
        from gpux.convert.worker.tokenizer.originals import RankTokenizer

        ranks = RankTokenizer(source)
        _keep(ranks.tokenizer, differences(ranks, ranks.tokenizer), output / TOKENIZER, events)
        return None
    from gpux.convert.worker.tokenizer.originals import SlowTokenizer, open_slow

    slow: Any = open_slow(source, trust_remote_code=trust_remote_code)
    if slow is None:
        events.warning(f"{NO_TEXT}: transformers has no Python tokenizer for these files to compare with")
        return None
    separate = bool(getattr(slow, "separate_vocabs", False))
    original = SlowTokenizer(slow, decodes=not separate)
    _keep(*_nearest(slow, original, source, trust_remote_code=trust_remote_code), output / TOKENIZER, events)
    if separate:
        _keep(*_target(slow), output / TARGET, events)
    return slow


def _nearest(
    slow: Any, original: Original, source: Path, *, trust_remote_code: bool
) -> tuple[Tokenizer | None, list[Difference]]:
    """The first candidate that is equal to the original, else the one with the fewest differences."""
    from gpux.convert.worker.tokenizer.repairs import repaired, weight

    best: Tokenizer | None = None
    left: list[Difference] = []
    for tokenizer in _candidates(slow, source, trust_remote_code=trust_remote_code):
        candidate, found = repaired(tokenizer, slow, original)
        if best is None or weight(found) < weight(left):
            best, left = candidate, found
        if not left:
            break
    return best, left


def _candidates(slow: Any, source: Path, *, trust_remote_code: bool) -> Iterator[Tokenizer]:
    """Candidates: the repository's own; from gpux's converter for classes that transformers has none for; else
    transformers', then gpux's."""
    from gpux.convert.worker.tokenizer.converters import describe, from_characters, from_sentencepiece
    from gpux.convert.worker.tokenizer.originals import open_fast

    if (source / TOKENIZER).is_file():
        yield Tokenizer.from_file(str(source / TOKENIZER))
    own = from_characters(slow)
    if own is not None:
        yield own
        return
    fast: Any = open_fast(source, trust_remote_code=trust_remote_code)
    if fast is not None:
        yield fast.backend_tokenizer
    found = describe(slow)
    if found is not None:
        tokenizer = from_sentencepiece(slow, found)
        if tokenizer is not None:
            yield tokenizer


def _target(slow: Any) -> tuple[Tokenizer | None, list[Difference]]:
    """The tokenizer of a translation model's target language, if that has a vocabulary of its own."""
    from gpux.convert.worker.tokenizer.converters import describe, from_sentencepiece
    from gpux.convert.worker.tokenizer.originals import SlowTokenizer

    found = describe(slow, target=True)
    tokenizer = from_sentencepiece(slow, found) if found is not None else None
    return tokenizer, differences(SlowTokenizer(slow, target=True), tokenizer) if tokenizer is not None else []


def _keep(tokenizer: Tokenizer | None, found: list[Difference], file: Path, events: Events) -> None:
    """Write a tokenizer that is equal to the original on all ordinary texts; warn about differences."""
    if tokenizer is None:
        events.warning(f"{NO_TEXT}: gpux has no converter for this kind of tokenizer")
        return
    wrong = [difference for difference in found if not difference.edge]
    if wrong:
        events.warning(f"{NO_TEXT}: tokenizer differs from the original: {wrong[0]}{_more(wrong)}")
        return
    tokenizer.no_truncation()
    tokenizer.no_padding()
    write_text(file, tokenizer.to_str(pretty=True))
    if found:
        events.warning(f"tokenizer differs from the original on unusual texts: {found[0]}{_more(found)}")


def _more(found: list[Difference]) -> str:
    return f", and {len(found) - 1} more" if len(found) > 1 else ""
