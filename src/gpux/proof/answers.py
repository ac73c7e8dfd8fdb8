"""Comparison of a pipeline's answers with those of the reference library, from the input to the answer.

:mod:`gpux.convert.answer_case` has the cases. Token ids, chat prompts, labels and texts are equal; each number of a
vector and each score may differ by ``tolerance`` times the larger of 1 and the case's largest reference magnitude. In
answers about pictures and sounds, a box may differ by one pixel (transformers cuts its fractions off), a grey level by
one, a mask by a thousandth of its union with the reference's, and a timestamp by one frame of 0.02 s.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpux.convert.answer_case import CALL, CHAT, ENCODE, TOKENS, AnswerCase, AnswerSet, read_answers, write_answers
from gpux.errors import CancelledError, InputError, ProofError
from gpux.model.precisions import find_precision
from gpux.model.variant import AnswerProof, StoredModel
from gpux.proof.cases import FOLDER
from gpux.proof.comparison import distance
from gpux.system.cancel import CancelToken

#: Cases are kept for replay, smallest first, up to this many bytes.
KEPT_BYTES = 2_000_000
#: No further case begins after this many seconds.
MOST_SECONDS = 60.0
#: Kinds that do not depend on the graphs: they hold for a quantized variant too.
TEXT_KINDS = frozenset({TOKENS, CHAT})
#: Kinds whose equality makes answers proven.
_ANSWERS = frozenset({ENCODE, CALL})
#: Keys of generated texts, which are equal in float32 only: elsewhere the first token that differs changes the rest.
_GENERATED = frozenset({"generated_text", "summary_text", "translation_text"})
#: End of the names of libraries that gave token ids, where another version gave the answers.
_OF_TOKENS = " (tokenizer)"
#: Least intersection over union of two masks.
MASK_IOU = 0.999
#: Pixels, grey levels, and seconds by which these may differ.
_PIXELS, _LEVELS, _FRAME = 1, 1, 0.02
#: Keys of what was found at a place: such a ranking is not cut after some entries, so its last one counts too.
_PLACES = frozenset({"box", "mask"})
_SHOWN = 80  #: characters of an input or an answer in a message


class Answerer(Protocol):
    """A pipeline, asked for its answers to cases."""

    @property
    def kinds(self) -> Collection[str]:
        """The kinds of cases that the pipeline has answers to."""

    def answer(self, case: AnswerCase) -> Any:
        """The answer, in the form of the case's ``expected``."""

    def length(self, case: AnswerCase) -> int:
        """Tokens of the longest input, with those that are generated."""


@dataclass(frozen=True)
class Difference:
    """A case whose answer differs from the reference."""

    case: AnswerCase
    message: str  #: continues "differs from the reference: "

    def __str__(self) -> str:
        return f"{self.case.name}, input {shortened(self.case.inputs)}: {self.message}"


@dataclass(frozen=True)
class Comparison:
    """The result of comparing a set of cases."""

    compared: tuple[AnswerCase, ...] = ()
    differences: tuple[Difference, ...] = ()
    max_abs_diff: float | None = None  #: of vectors and scores
    left: str = ""  #: which cases were not compared, and why


def compare_answers(
    cases: Sequence[AnswerCase],
    answerer: Answerer,
    tolerance: float,
    *,
    exact_texts: bool = True,
    limit: int | None = None,
    seconds: float = MOST_SECONDS,
    cancel: CancelToken | None = None,
) -> Comparison:
    """Ask a pipeline for the answer to each case.

    Args:
        cases: in the order in which they are compared.
        answerer: the pipeline.
        tolerance: of numbers, relative to the larger of 1 and the case's largest reference magnitude.
        exact_texts: generated texts have to be equal; False: they are not compared.
        limit: tokens for which the graphs are proven; a case with more that differs is left out.
        seconds: no case begins later.
        cancel: checked before each case.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    started, token = time.monotonic(), cancel or CancelToken()
    compared: list[AnswerCase] = []
    differences: list[Difference] = []
    largest: list[float] = []
    left: list[str] = []
    for index, case in enumerate(cases):
        token.check()
        if time.monotonic() - started > seconds:
            left.append(f"{len(cases) - index} of {len(cases)} cases were not compared after {seconds:.0f} s")
            break
        if case.kind not in answerer.kinds:
            continue
        try:
            measured, message = _compare(case, answerer, tolerance, exact_texts=exact_texts)
        except InputError as exc:  # a picture of a size that the graph does not read
            left.append(f"{case.name}: {exc.message}")
            continue
        if message and limit is not None and answerer.length(case) > limit:
            left.append(f"{case.name} is longer than {limit} tokens")
            continue
        compared.append(case)
        largest += [] if measured is None else [measured]
        differences += [Difference(case, message)] if message else []
    return Comparison(tuple(compared), tuple(differences), max(largest, default=None), "; ".join(left))


def prove_answers(
    answers: AnswerSet | None,
    answerer: Answerer,
    precision: str,
    *,
    limit: int | None = None,
    seconds: float = MOST_SECONDS,
    cancel: CancelToken | None = None,
) -> tuple[AnswerProof, Comparison]:
    """Compare a new variant's answers with the reference library's.

    The result is ``proven`` if an answer of the graphs was compared, besides token ids and chat prompts, and none
    differs.

    Args:
        answers: of the reference library; None if the converter computed none.
        answerer: the pipeline.
        precision: of the graphs.
        limit: as in :func:`compare_answers`, like all further arguments.
        seconds: see there.
        cancel: see there.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    if answers is None or not (answers.cases or answers.failures):
        return AnswerProof(
            "not compared", reason="the converter gives no reference answers for this task"
        ), Comparison()
    kind = find_precision(precision)
    found = compare_answers(
        answers.cases,
        answerer,
        kind.tolerance or kind.replay_tolerance,
        exact_texts=kind.activation_bits == kind.bits == 32,
        limit=limit,
        seconds=seconds,
        cancel=cancel,
    )
    return _verdict(answers, found), found


def _verdict(answers: AnswerSet, found: Comparison) -> AnswerProof:
    reasons = [f"the reference gives no {kind}: {reason}" for kind, reason in answers.failures.items()]
    reasons += [found.left] if found.left else []
    proven = any(case.kind in _ANSWERS for case in found.compared)
    if found.differences:
        reasons = [str(found.differences[0])]
    elif not proven and not reasons:
        reasons = ["the reference gives token ids only"]
    return AnswerProof(
        "failed" if found.differences else "proven" if proven else "not compared",
        len(found.compared),
        found.max_abs_diff,
        dict(answers.versions),
        "; ".join(reasons),
    )


def keep_answers(answers: AnswerSet, cases: Collection[AnswerCase], variant: Path) -> None:
    """Write cases into the variant's own ``proof/`` folder: the smallest up to :data:`KEPT_BYTES`, at least one."""
    kept: set[str] = set()
    total = 0
    for case in sorted(cases, key=_size):
        total += _size(case)
        if kept and total > KEPT_BYTES:
            break
        kept.add(case.name)
    if kept:
        chosen = tuple(case for case in cases if case.name in kept)
        write_answers(AnswerSet(chosen, answers.versions, answers.failures), variant / FOLDER)


def _size(case: AnswerCase) -> int:
    """Bytes of a case, not compressed."""
    nbytes = 0

    def count(array: Any) -> None:
        nonlocal nbytes
        nbytes += array.nbytes

    return len(json.dumps([case.inputs, case.expected], default=count)) + nbytes


def carry_answers(source: StoredModel, variant: Path) -> AnswerProof | None:
    """Keep the token ids and chat prompts of a variant with another one that is quantized from it.

    Raises:
        CorruptFileError: the cases cannot be read.
    """
    found, answers = source.manifest.proof.answers, read_answers(source.path / FOLDER)
    if found is None:
        return None
    cases = tuple(case for case in answers.cases if case.kind in TEXT_KINDS) if answers is not None else ()
    if answers is not None:
        keep_answers(answers, cases, variant)
    reason = "token ids and chat prompts are those of fp32, and other answers differ by design"
    failed = found.status == "failed"
    return AnswerProof(
        "failed" if failed else "not compared", len(cases), None, found.reference, found.reason if failed else reason
    )


def replay_answers(
    model: StoredModel, answerer: Answerer, *, exact_texts: bool = True, cancel: CancelToken | None = None
) -> Comparison:
    """Compare the answers of a stored variant, as it is now, with its kept cases; an empty result if it has none.

    Args:
        model: the variant.
        answerer: its pipeline.
        exact_texts: generated texts have to be equal, as on the execution provider of the proof.
        cancel: checked before each case.

    Raises:
        ProofError: an answer differs, which did not when the variant was stored.
        CorruptFileError: the cases cannot be read.
        CancelledError: ``cancel`` was set.
    """
    answers = read_answers(model.path / FOLDER)
    if answers is None:
        return Comparison()
    proof, kind = model.manifest.proof, find_precision(model.manifest.precision)
    found = compare_answers(
        answers.cases,
        answerer,
        kind.replay_tolerance,
        exact_texts=exact_texts and kind.activation_bits == kind.bits == 32,
        limit=proof.limit.length if proof.limit else None,
        seconds=float("inf"),
        cancel=cancel,
    )
    if found.differences and (proof.answers is None or proof.answers.status != "failed"):
        raise differs(model.id, found.differences, answers.versions, then="when it was stored, they were equal")
    return found


def differs(
    id: str, differences: Sequence[Difference], versions: Mapping[str, str], *, then: str, hint: str | None = None
) -> ProofError:
    """The error for answers that differ from the reference's: the first one, and the number of the others."""
    others = len(differences) - 1
    more = f" ({others} more {'case differs' if others == 1 else 'cases differ'})" if others else ""
    by = _libraries(differences[0].case.kind, versions)
    return ProofError(
        f"the answers of {id} differ from those of {by or 'the reference'} in {differences[0]}{more}; {then}",
        hint=hint,
        model=id,
        cases=[difference.case.name for difference in differences],
    )


def _libraries(kind: str, versions: Mapping[str, str]) -> str:
    """The libraries that gave the answers of a kind, with their versions; the worker marks those of token ids."""
    own = {name: version for name, version in versions.items() if name.endswith(_OF_TOKENS)}
    found = own if own and kind in TEXT_KINDS else {key: value for key, value in versions.items() if key not in own}
    return ", ".join(f"{name.removesuffix(_OF_TOKENS)} {version}" for name, version in found.items())


# -- one case: the largest difference of its numbers, and what differs beyond the tolerance ----------------------------


def _compare(case: AnswerCase, answerer: Answerer, tolerance: float, *, exact_texts: bool) -> tuple[float | None, str]:
    try:
        actual = answerer.answer(case)
    except CancelledError:
        raise
    except Exception as exc:
        if isinstance(exc, InputError) and "graph_size" in exc.details:
            raise
        return None, f"the pipeline answers with {type(exc).__name__}: {getattr(exc, 'message', exc)}"
    if case.kind in TEXT_KINDS:
        return None, _compare_tokens(case.expected, actual)
    comparing = _Comparing(tolerance * max(1.0, _magnitude(case.expected)), exact_texts)
    message = comparing.compare(case.expected, actual, several=_are_several(case.inputs))
    return comparing.largest, message


def _compare_tokens(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    if expected.get("text") is not None and expected["text"] != actual.get("text"):
        return _texts(actual.get("text"), expected["text"])
    for key, word in (("ids", "token"), ("type_ids", "type id of token")):
        if expected.get(key) is not None and list(actual[key]) != list(expected[key]):
            return _first_difference(list(actual[key]), list(expected[key]), word)
    return ""


def _first_difference(actual: Sequence[int], expected: Sequence[int], word: str) -> str:
    pairs = zip(actual, expected, strict=False)
    place = next((index for index, pair in enumerate(pairs) if pair[0] != pair[1]), min(len(actual), len(expected)))
    here, there = (str(ids[place]) if place < len(ids) else "missing" for ids in (actual, expected))
    lengths = "" if len(actual) == len(expected) else f"; {len(actual)} tokens, and {len(expected)} in the reference"
    return f"{word} {place} is {here}, and {there} in the reference{lengths}"


def _texts(actual: Any, expected: Any) -> str:
    """Both values; of long texts from shortly before the first character that differs."""
    if isinstance(actual, str) and isinstance(expected, str):
        pairs = zip(actual, expected, strict=False)
        place = next((index for index, pair in enumerate(pairs) if pair[0] != pair[1]), min(len(actual), len(expected)))
        begin = max(0, place - _SHOWN // 4)
        if begin:
            here, there = shortened(actual[begin:]), shortened(expected[begin:])
            return f"from character {begin} on the answer is {here}, and {there} in the reference"
    return f"the answer is {shortened(actual)}, and {shortened(expected)} in the reference"


class _Comparing:
    """One case: the allowed difference, and the largest found."""

    def __init__(self, allowed: float, exact_texts: bool) -> None:
        self.allowed = allowed
        self.exact_texts = exact_texts
        self.largest: float | None = None

    def compare(self, expected: Any, actual: Any, *, several: bool = False, key: str = "") -> str:
        """What differs, in words; empty if nothing does.

        Args:
            expected: of the reference.
            actual: of the pipeline.
            several: the outer list has an answer for each input.
            key: of the mapping that has the values, which may allow a difference of its own.
        """
        if key in ("box", "timestamp"):
            return _within(expected, actual, _PIXELS if key == "box" else _FRAME, key)
        if isinstance(expected, np.ndarray) and expected.dtype in (np.bool_, np.uint8):
            return (_masks if expected.dtype == np.bool_ else _pictures)(expected, np.asarray(actual))
        numbers = _numbers(expected)
        if numbers is not None:
            return self._numbers(numbers, _numbers(actual))
        if isinstance(expected, Mapping):
            if not isinstance(actual, Mapping) or set(actual) != set(expected):
                return _texts(actual, expected)
            skipped = frozenset[str]() if self.exact_texts else _GENERATED
            return self._first((expected[key], actual[key], key) for key in expected if key not in skipped)
        if isinstance(expected, list):
            if not isinstance(actual, (list, tuple)) or len(actual) != len(expected):
                return _texts(actual, expected)
            if not several and _is_ranking(expected) and _is_ranking(actual):
                return self._ranking(expected, list(actual))
            return self._first((*pair, "") for pair in zip(expected, actual, strict=True))
        return "" if expected == actual else _texts(actual, expected)

    def _first(self, pairs: Any) -> str:
        """The first difference of several; all are measured."""
        messages = [self.compare(expected, actual, key=key) for expected, actual, key in pairs]
        return next((message for message in messages if message), "")

    def _numbers(self, expected: NDArray[Any], actual: NDArray[Any] | None) -> str:
        if actual is None or actual.shape != expected.shape:
            shape = "no numbers" if actual is None else f"numbers of the shape {actual.shape}"
            self.largest = float("inf")
            return f"the answer has {shape}, and the reference has the shape {expected.shape}"
        found = distance(actual, expected)
        self.largest = max(found, self.largest or 0.0)
        if found <= self.allowed:
            return ""
        return f"{_worst(actual, expected)}: a difference of {found:.1e}, allowed {self.allowed:.1e}"

    def _ranking(self, expected: list[Any], actual: list[Any]) -> str:
        """Scores by place; what has a score by name, as neighbours whose scores are nearly equal may be exchanged."""
        scores = [[float(entry["score"]) for entry in entries] for entries in (expected, actual)]
        message = self._numbers(np.array(scores[0]), np.array(scores[1]))
        return message or self._unmatched(expected, actual) or self._unmatched(actual, expected, reverse=True)

    def _unmatched(self, entries: list[Any], others: list[Any], *, reverse: bool = False) -> str:
        """An entry that the other ranking has with another score, or not at all although it is not near its end."""
        last = [min(float(other["score"]) for other in others)]
        labelled = _by_label([*entries, *others]) and _by_label(others)  # a thousand labels are a million pairs
        for entry, other in zip(entries, others, strict=True):
            score, rest = float(entry["score"]), _rest(entry)
            if labelled is not None:
                named = labelled.get(rest["label"], [])
            else:
                named = [
                    float(found["score"])
                    for found in others
                    if not (self._differ(_rest(found), rest) if reverse else self._differ(rest, _rest(found)))
                ]
            named = named or ([] if _PLACES & rest.keys() else last)
            if all(abs(found - score) > self.allowed for found in named):
                return _texts(entry, other) if reverse else _texts(other, entry)
        return ""

    def _differ(self, expected: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
        """How what was found differs, apart from its score."""
        return _Comparing(self.allowed, self.exact_texts).compare(expected, actual)


def _within(expected: Any, actual: Any, allowed: float, key: str) -> str:
    """Numbers of a box or of a timestamp, whose end may be open (None)."""
    pairs = list(zip(_flat(expected), _flat(actual), strict=False))
    same = len(_flat(expected)) == len(_flat(actual)) and all(
        here == there if None in (here, there) else abs(here - there) <= allowed + 1e-6 for here, there in pairs
    )
    return "" if same else f"{key}: {_texts(actual, expected)}"


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [value[name] for name in sorted(value)]
    return list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]


def _masks(expected: NDArray[np.bool_], actual: NDArray[Any]) -> str:
    if actual.shape != expected.shape:
        return f"the mask has the shape {actual.shape}, and {expected.shape} in the reference"
    here = actual.astype(bool)
    union = int((here | expected).sum())
    iou = int((here & expected).sum()) / union if union else 1.0
    return "" if iou >= MASK_IOU else f"the mask overlaps with the reference's by {iou:.4f} (IoU), needed {MASK_IOU}"


def _pictures(expected: NDArray[np.uint8], actual: NDArray[Any]) -> str:
    if actual.shape != expected.shape:
        return f"the picture has the shape {actual.shape}, and {expected.shape} in the reference"
    levels = int(np.abs(actual.astype(np.int16) - expected).max(initial=0))
    return "" if levels <= _LEVELS else f"a pixel differs by {levels} levels, allowed {_LEVELS}"


def _are_several(inputs: Any) -> bool:
    """Whether the answer is a list with one answer for each input; a chat is one input."""
    return isinstance(inputs, list) and len(inputs) > 1 and not (isinstance(inputs[0], dict) and "role" in inputs[0])


def _is_ranking(entries: Sequence[Any]) -> bool:
    return bool(entries) and all(
        isinstance(entry, Mapping) and isinstance(entry.get("score"), (int, float)) for entry in entries
    )


def _by_label(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[float]] | None:
    """Label -> its scores; None where an entry has more than a label and a score."""
    found: dict[str, list[float]] = {}
    for entry in entries:
        if entry.keys() != {"label", "score"} or not isinstance(entry["label"], str):
            return None
        found.setdefault(entry["label"], []).append(float(entry["score"]))
    return found


def _rest(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "score"}


def _numbers(value: Any) -> NDArray[Any] | None:
    """Floating-point numbers in nested lists of equal lengths, as an array; None for anything else."""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    leaf = value
    while isinstance(leaf, (list, tuple)) and leaf:
        leaf = leaf[0]
    if isinstance(leaf, np.ndarray) or type(leaf) is float:
        try:
            return np.asarray(value, dtype=np.float64)
        except (ValueError, TypeError):  # lists of other lengths, or something else among the numbers
            return None
    return None


def _magnitude(value: Any) -> float:
    """The largest finite magnitude of the numbers in an answer."""
    if isinstance(value, np.ndarray) and value.dtype in (np.bool_, np.uint8):
        return 0.0
    numbers = _numbers(value)
    if numbers is not None:
        return float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0.0))
    if isinstance(value, Mapping):
        inner = [found for key, found in value.items() if key not in ("box", "timestamp")]
    else:
        inner = value if isinstance(value, list) else []
    return max(map(_magnitude, inner), default=0.0)


def _worst(actual: NDArray[Any], expected: NDArray[Any]) -> str:
    """The numbers that differ most, with their place."""
    differing = np.nan_to_num(np.abs(actual.astype(np.float64) - expected), nan=np.inf)
    place = np.unravel_index(int(differing.argmax()), differing.shape)
    where = f" at [{', '.join(map(str, place))}]" if place else ""
    return f"the answer{where} is {float(actual[place]):.4g}, and {float(expected[place]):.4g} in the reference"


def shortened(value: Any) -> str:
    """An input or an answer as JSON, cut after some characters."""
    if isinstance(value, np.ndarray):
        return f"an array of the shape {value.shape}"
    text = json.dumps(value, ensure_ascii=False, default=_short)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 2]} …"


def _short(value: Any) -> str:
    return f"an array of the shape {value.shape}" if isinstance(value, np.ndarray) else str(value)
