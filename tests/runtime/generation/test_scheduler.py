"""Continuous batching on the tiny decoder: each sequence as alone, whatever joins and leaves beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gpux.errors import CacheMemoryError, ContextLengthError, GpuxError, RunError, UsageError
from gpux.runtime.generation.choose.row import Emitted
from gpux.runtime.generation.engine import calls
from gpux.runtime.generation.engine.cache import CacheTensor
from gpux.runtime.generation.engine.decoder import Decoder
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.generation.results import Timings
from gpux.runtime.generation.scheduler.job import Job
from gpux.runtime.generation.scheduler.prefixes import Prefixes
from gpux.runtime.generation.scheduler.scheduler import Scheduler, bucket
from gpux.runtime.generation.scheduler.slots import Slots
from gpux.system.cancel import CancelToken
from tests.runtime.generation.tiny_decoders import Opened, expected, written
from tests.runtime.generation.tiny_graphs import POSITIONS, VOCABULARY, Kind, greedy

UNIT = 128  #: bytes of one token in the cache
LONG = [(7 * place) % VOCABULARY for place in range(30)]


@pytest.fixture
def kind() -> Kind:
    return "shared"


@pytest.fixture
def scored() -> str:
    return "last-logits"


class Answer:
    """A listener that notes what it is informed of."""

    def __init__(self, sequences: int = 1) -> None:
        self.tokens: list[list[int]] = [[] for _ in range(sequences)]
        self.reasons: list[str | None] = [None] * sequences
        self.result: Timings | GpuxError | None = None

    def stops(self, number: int, token: int) -> bool:
        return False

    def emitted(self, emitted: Emitted) -> None:
        assert self.reasons[emitted.row] is None
        if emitted.token is not None:
            self.tokens[emitted.row].append(emitted.token)
        self.reasons[emitted.row] = emitted.finish

    def ended(self, result: Timings | GpuxError) -> None:
        assert self.result is None
        self.result = result


class Failing(Answer):
    def emitted(self, emitted: Emitted) -> None:
        super().emitted(emitted)
        if len(self.tokens[0]) == 3:
            raise ValueError("a callback")


class Only:
    """Allows one token, a few times."""

    finished = False

    def __init__(self, error: Exception | None = None) -> None:
        self._left, self._error = 4, error

    def mask(self, scores: Any) -> Any:
        self._left -= 1
        if self._left == 0 and self._error is not None:
            raise self._error
        scores[np.arange(scores.size) != 9] = -np.inf
        return scores

    def accept(self, token: int) -> None:
        self.finished = self._left <= 0


def scheduler(decoder: Decoder, *, rows: int = 4, tokens: int = 4 * POSITIONS, kept: int = 0) -> Scheduler:
    """With a cache, and kept answers, of so many tokens."""
    return Scheduler(decoder, max_rows=rows, cache_bytes=tokens * UNIT, prefix_bytes=kept * UNIT)


def add(
    to: Scheduler,
    prompt: Sequence[int],
    *,
    answer: Answer | None = None,
    cancel: CancelToken | None = None,
    deadline: float | None = None,
    constraint: Any = None,
    reuse: bool = True,
    **options: Any,
) -> tuple[Answer, Job]:
    chosen = GenerationOptions().with_options(**{"max_new_tokens": 12, **options})
    request = DecodeRequest([prompt], chosen, cancel=cancel, deadline=deadline, constraint=constraint)
    own = answer or Answer(chosen.num_return_sequences)
    job = to.job(request, own, reuse=reuse, submitted=time.monotonic())
    to.add(job)
    return own, job


def finish(to: Scheduler) -> None:
    for _ in range(2000):
        if not to.work():
            return
    raise AssertionError("it does not end")


@pytest.mark.parametrize("seed", range(6))
def test_whatever_joins_and_leaves_each_sequence_is_as_alone(
    made: Opened, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "CHUNK", 5)
    rng = np.random.default_rng(seed)
    decoder = made()
    to = scheduler(decoder, tokens=3 * POSITIONS, kept=100)
    kinds: list[dict[str, Any]] = [
        {},
        {"do_sample": True, "temperature": 2.0},
        {"do_sample": True, "top_k": 9, "num_return_sequences": 3},
        {"repetition_penalty": 1.4, "presence_penalty": 0.5},
        {"eos_token_ids": (3, 9, 14, 20, 33)},
        {"no_repeat_ngram_size": 2, "logprobs": 2},
    ]
    begins = [rng.integers(0, VOCABULARY, 17).tolist() for _ in range(2)]
    wanted, found, tokens = [], [], []
    for number in range(24):
        options = {**kinds[int(rng.integers(len(kinds)))], "max_new_tokens": int(rng.integers(1, 20))}
        if options.get("do_sample"):
            options["seed"] = number
        begin = begins[int(rng.integers(2))] if rng.random() < 0.4 else []
        prompt = [*begin, *rng.integers(0, VOCABULARY, int(rng.integers(1, 18))).tolist()]
        token = CancelToken()
        wanted.append(written(decoder, [prompt], **options))
        found.append(add(to, prompt, cancel=token, reuse=bool(rng.random() < 0.7), **options)[0])
        tokens.append(token)
        for _ in range(int(rng.integers(0, 6))):
            to.work()
        if rng.random() < 0.25:
            tokens[int(rng.integers(len(tokens)))].cancel()
    finish(to)
    assert to.rows == to.waiting == to.running == 0
    assert max(to.batch_sizes) == 4
    for answer, whole, token in zip(found, wanted, tokens, strict=True):
        assert isinstance(answer.result, Timings)
        if token.cancelled and "cancelled" in answer.reasons:
            assert all(own == one[: len(own)] for own, one in zip(answer.tokens, whole, strict=True))
        else:
            assert answer.tokens == whole
    assert sum("cancelled" in answer.reasons for answer in found) >= 1


def test_a_long_prompt_delays_others_by_one_piece_at_most(made: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CHUNK", 3)
    to = scheduler(made())
    running = [add(to, [number, 5], max_new_tokens=40)[0] for number in range(3)]
    while to.rows < 3:
        to.work()
    begun = len(running[0].tokens[0])
    long, _ = add(to, LONG)
    for step in range(1, 10):  # of ten pieces
        to.work()
        assert len(running[0].tokens[0]) == begun + step
        assert not long.tokens[0]
    to.work()
    assert len(long.tokens[0]) == 2  # by the last piece, and by the step after it
    finish(to)
    assert long.tokens == expected([LONG])
    assert [answer.tokens[0] for answer in running] == [greedy([number, 5], 40) for number in range(3)]


def test_short_prompts_are_read_between_two_steps(made: Opened) -> None:
    to = scheduler(made())
    answers = [add(to, [number + 1])[0] for number in range(4)]
    to.work()
    assert (to.rows, to.batch_sizes) == (4, {4: 1})
    finish(to)
    assert [answer.tokens[0] for answer in answers] == expected([[number + 1] for number in range(4)])


def test_sequences_of_one_prompt_read_it_once(made: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = calls.Caller.call

    def call(self: Any, ids: Any, *others: Any, **more: Any) -> Any:
        read.append(ids.shape[1])
        return original(self, ids, *others, **more)

    decoder = made()
    wanted = written(decoder, [LONG], do_sample=True, seed=3, num_return_sequences=4)
    monkeypatch.setattr(calls.Caller, "call", call)
    to = scheduler(decoder)
    answer, _ = add(to, LONG, seed=3, num_return_sequences=4)
    finish(to)
    assert answer.tokens == wanted
    assert read == [len(LONG)]


def test_no_more_rows_than_allowed(made: Opened) -> None:
    to = scheduler(made(), rows=2)
    answers = [add(to, [number + 1], max_new_tokens=3 + number)[0] for number in range(5)]
    large, _ = add(to, [7], seed=1, num_return_sequences=3)
    finish(to)
    assert set(to.batch_sizes) == {1, 2, 3}
    assert to.batch_sizes[3] == 11  # alone
    assert [answer.tokens[0] for answer in answers] == [greedy([number + 1], 3 + number) for number in range(5)]
    assert [len(tokens) for tokens in large.tokens] == [12] * 3


def test_the_cache_grows_under_rows_that_are_decoded(made: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpux.runtime.generation.scheduler.scheduler.bucket", lambda tokens: tokens)
    to = scheduler(made())
    short, _ = add(to, [3], max_new_tokens=30)
    to.work()
    before = to.cache_bytes
    longer, _ = add(to, LONG, max_new_tokens=20)
    to.work()
    assert to.cache_bytes == 2 * 50 * UNIT > before
    finish(to)
    assert short.tokens == expected([[3]], 30)
    assert longer.tokens == expected([LONG], 20)


def test_a_request_waits_for_room_in_the_cache(made: Opened) -> None:
    to = scheduler(made(), tokens=60)
    first, _ = add(to, [3], max_new_tokens=20)
    second, job = add(to, LONG, max_new_tokens=12)
    third, _ = add(to, [4], max_new_tokens=2)  # waits behind it, however small
    for _ in range(10):
        to.work()
    assert (to.rows, to.waiting) == (1, 2)
    finish(to)
    assert (first.tokens, second.tokens, third.tokens) == (expected([[3]], 20), expected([LONG]), expected([[4]], 2))
    assert isinstance(second.result, Timings) and second.result.queue > 0
    assert job.steps == 11
    assert to.cache_bytes <= 60 * UNIT


def test_a_request_that_never_fits_is_refused(made: Opened) -> None:
    to = scheduler(made(), tokens=40)
    with pytest.raises(CacheMemoryError, match="allowed") as error:
        add(to, LONG, max_new_tokens=12)
    assert error.value.details == {"needed": 42 * UNIT, "available": 40 * UNIT}
    answer, _ = add(to, LONG, max_new_tokens=10)  # as the hint says
    finish(to)
    assert answer.tokens == expected([LONG], 10)


def test_a_prompt_that_fills_the_context_is_refused(made: Opened) -> None:
    to = scheduler(made(limit=30))
    with pytest.raises(ContextLengthError):
        add(to, LONG)
    with pytest.raises(UsageError):
        add(to, [3], num_beams=2)


def test_several_conversations_keep_theirs(made: Opened) -> None:
    to = scheduler(made(), kept=2 * 40)
    turns = [[place + number for place in range(20)] for number in range(3)]

    def turn(number: int, reuse: bool = True) -> int:
        answer, _ = add(to, [*turns[number], 1], max_new_tokens=5, reuse=reuse)
        finish(to)
        assert answer.tokens == expected([[*turns[number], 1]], 5)
        turns[number] += [1, *answer.tokens[0]]
        assert isinstance(answer.result, Timings)
        return answer.result.reused_tokens

    assert [turn(0), turn(1)] == [0, 0]
    assert to.prefix_bytes == 2 * 25 * UNIT
    assert [turn(0), turn(1)] == [25, 25]  # both of the turns before, without the last token
    assert turn(0, reuse=False) == 0
    assert turn(2) == 0  # the least recently used, 0, has to go
    assert [turn(1), turn(2), turn(0)] == [31, 25, 0]


def test_a_prompt_begins_with_what_a_running_row_has_read(made: Opened) -> None:
    to = scheduler(made())
    first, _ = add(to, LONG, max_new_tokens=20)
    to.work()
    second, job = add(to, [*LONG[:20], 2, 2])
    private, own = add(to, [*LONG[:20], 3, 3], reuse=False)
    finish(to)
    assert (job.reused, own.reused) == (20, 0)
    assert first.tokens == expected([LONG], 20)
    assert second.tokens == expected([[*LONG[:20], 2, 2]])
    assert private.tokens == expected([[*LONG[:20], 3, 3]])


def test_the_least_recently_used_answer_goes_first() -> None:
    kept = Prefixes(limit=3)
    ids = [np.full(20, number) for number in range(4)]
    for one in ids[:3]:
        kept.keep(one, 1, list)
    assert kept.best(np.full(21, 0))[0] == 20
    kept.keep(ids[3], 1, list)
    assert [kept.best(np.full(21, number))[0] for number in range(4)] == [20, 0, 20, 20]
    kept.keep(np.full(30, 3), 2, list)  # in place of the answer that it continues
    assert [kept.best(np.full(40, number))[0] for number in range(4)] == [0, 0, 20, 30]
    assert (kept.nbytes, len(kept)) == (3, 2)
    kept.keep(np.full(40, 3), 4, list)  # more than may be kept
    assert kept.best(np.full(50, 3))[0] == 30
    kept.clear()
    assert kept.best(np.full(50, 3)) == (0, None)


def test_a_cancelled_row_leaves_at_once_and_the_others_continue(made: Opened) -> None:
    to = scheduler(made())
    token = CancelToken()
    answers = [add(to, [number + 1], cancel=token if number == 1 else None)[0] for number in range(3)]
    waiting, _ = add(to, [9], num_return_sequences=4, seed=2, cancel=token)
    to.work()
    token.cancel()
    to.work()
    assert answers[1].reasons == ["cancelled"]
    assert waiting.reasons == ["cancelled"] * 4
    assert to.rows == 2
    finish(to)
    wanted = expected([[1], [2], [3]])
    assert [answer.tokens[0] for answer in answers] == [wanted[0], wanted[1][:2], wanted[2]]


def test_a_prompt_that_is_read_is_cancelled(made: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CHUNK", 3)
    to = scheduler(made())
    token = CancelToken()
    long, _ = add(to, LONG, cancel=token)
    short, _ = add(to, [5])
    to.work()
    token.cancel()
    to.work()
    assert (long.reasons, long.tokens) == (["cancelled"], [[]])
    finish(to)
    assert short.tokens == expected([[5]])


def test_a_deadline_ends_a_row(made: Opened) -> None:
    to = scheduler(made())
    late, _ = add(to, [5], deadline=time.monotonic())
    other, _ = add(to, [6])
    finish(to)
    assert (late.reasons, late.tokens) == (["deadline"], [[]])
    assert other.tokens == expected([[6]])


def test_an_error_ends_its_own_request(made: Opened) -> None:
    to = scheduler(made())
    fine, _ = add(to, [5])
    raising, _ = add(to, [6], constraint=lambda: Only(ValueError("a fault")))
    stuck, _ = add(to, [7], suppress_tokens=tuple(range(VOCABULARY)))
    broken, _ = add(to, [8], answer=Failing())
    last, _ = add(to, [9], num_return_sequences=2, seed=1, constraint=lambda: Only(RunError("no token fits")))
    finish(to)
    assert fine.tokens == expected([[5]])
    assert raising.tokens == [[9, 9, 9]]
    assert isinstance(raising.result, RunError) and "ValueError: a fault" in raising.result.message
    assert isinstance(stuck.result, UsageError) and "forbidden" in stuck.result.message
    assert isinstance(broken.result, RunError)
    assert isinstance(last.result, RunError) and last.result.message == "no token fits"
    again, _ = add(to, [5])
    finish(to)
    assert again.tokens == expected([[5]])


def test_a_format_is_of_its_row_alone(made: Opened) -> None:
    to = scheduler(made())
    bound, _ = add(to, [6], constraint=Only, max_new_tokens=20)
    free, _ = add(to, [5])
    finish(to)
    assert (bound.tokens, bound.reasons) == ([[9] * 4], ["eos"])
    assert free.tokens == expected([[5]])


def test_closing_ends_everything(made: Opened) -> None:
    to = scheduler(made(), rows=1)
    answers = [add(to, [number + 1])[0] for number in range(3)]
    to.work()
    to.close()
    assert [answer.reasons for answer in answers] == [["cancelled"]] * 3
    assert all(isinstance(answer.result, Timings) for answer in answers)
    assert to.cache_bytes == to.prefix_bytes == 0


class Device:
    """Memory that the host reads and writes as a whole."""

    device = "cuda"

    def __init__(self, nbytes: int, device: str) -> None:
        self.nbytes = nbytes
        self._held = np.zeros(nbytes, np.uint8)

    def read(self) -> Any:
        return self._held.copy()

    def write(self, data: Any) -> None:
        self._held[: data.size] = data


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("axis", [2, 3])
def test_slots_are_copied_kept_and_laid_out_again(device: str, axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cuda":
        monkeypatch.setattr("gpux.runtime.generation.scheduler.slots.Buffer", Device)
    shape = ("batch", 2, "past", 3) if axis == 2 else ("batch", 2, 3, "past")
    tensors = [CacheTensor(name, name, dtype, shape, axis) for name, dtype in (("k", "float32"), ("v", "bfloat16"))]
    slots = Slots(tensors, device)
    slots.arrange(2, 4, {})
    assert (slots.unit, slots.nbytes) == (6 * 4 + 6 * 2, 2 * 4 * 36)
    given = [np.arange(18).reshape(3, 2, 3).astype(kind) for kind in (np.float32, np.uint16)]
    slots.write(0, given, 3)
    slots.copy(0, [0, 1], 2)
    slots.arrange(5, 6, {0: 3, 1: 2})
    slots.copy(1, [4], 2)
    for slot, length in ((0, 3), (1, 2), (4, 2)):
        for found, wanted in zip(slots.read(slot, length), given, strict=True):
            np.testing.assert_array_equal(found, wanted[:length])
    assert not any(part.any() for part in slots.read(2, 6))
    assert slots.moves is False
    slots.close()
    assert slots.nbytes == 0


@pytest.mark.parametrize("tokens", [1, 64, 65, 100, 129, 513, 1000, 4097, 100_000])
def test_capacities_are_rounded_up_by_a_quarter_at_most(tokens: int) -> None:
    assert tokens <= bucket(tokens) <= max(64, tokens * 5 // 4 + 64)
    assert bucket(bucket(tokens)) == bucket(tokens)
