"""Reference cases for graphs of one call: encoders with every head, vision, audio, two towers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from gpux.convert.reference_case import Call, ReferenceCase
from gpux.convert.worker.common.graphs import Signature, fix_axes, resolve
from gpux.convert.worker.reference.inputs import (
    TEXT_INPUTS,
    Arrays,
    Vocabulary,
    examples,
    other_input,
    ragged_mask,
    text_config,
)
from gpux.convert.worker.reference.lengths import find_thresholds, positions
from gpux.convert.worker.reference.sizes import (
    Variation,
    frame_stride,
    image_size,
    kind_of,
    traced_sizes,
    variations,
    works,
)
from gpux.convert.worker.reference.subject import (
    SHAPE_ERRORS,
    Findings,
    Subject,
    array,
    beyond,
    refuse_random,
    run_model,
    sort_thresholds,
    tokens_per_case,
)
from gpux.system.worker_protocol import Refused

GRAPH = "model"
IMAGE = "image"  # the case of the preprocessor's size
LONGEST = 512  # tokens; longer cases cost more than they show
#: Largest difference, relative to the larger of 1 and the largest magnitude, between a row in a batch and alone.
SAME = 1e-4
SMALL = 2_000_000  # bytes of the outputs of the smallest case, which is kept for replay


def write_single(subject: Subject) -> Findings:
    """Write the cases; returns what the graph supports. Axes that do not work are declared fixed in the file."""
    graph = Single(subject, GRAPH)
    signature = subject.signatures[GRAPH]
    found = positions(subject.model, text_config(subject.config))
    text = "input_ids" in signature.inputs
    counter = len(signature.inputs["input_ids"].shape) - 1 if text else 0
    findings = Findings(
        max_length=found.limit if text else None,
        position_inputs="position_ids" in signature.inputs,
        counters={GRAPH: {"input_ids": counter}} if text else {},
    )
    if set(signature.inputs) <= TEXT_INPUTS:
        _write_text(subject, graph, findings, hard=found.hard)
        subject.release(findings)
    else:
        if text and found.hard:
            findings.shorten(found.limit or 0)
        _write_other(subject, graph, findings)
    return findings


def _write_text(subject: Subject, graph: Single, findings: Findings, *, hard: bool) -> None:
    symbols = graph.signature.inputs["input_ids"].shape
    traced = {symbol: 2 for symbol in symbols[:-1] if isinstance(symbol, str)}
    token_bytes = graph.bytes_per_token(symbols)
    limit = findings.max_length
    sort_thresholds(findings, find_thresholds(subject.config), limit, tokens_per_case(token_bytes))
    if hard:
        findings.shorten(limit or 0)
    most = min(findings.max_length or LONGEST, tokens_per_case(token_bytes))
    longest = min(most, LONGEST)
    short = min(5, max(2, SMALL // token_bytes))
    together = graph.rows_are_independent(symbols, min(most, 17))
    if not together:
        findings.cap(GRAPH, "input_ids", 0, 1)
    wanted = {
        "batch": (3, 17, False),
        "short": (1, short, False),
        "padded": (2, 61, True),
        "longest": (1, longest, False),
    }
    for one in findings.thresholds:
        if one not in findings.unaffordable:
            wanted[f"below-{one.name}-{one.length}"] = (2, one.length, True)
            wanted[f"beyond-{one.name}-{one.length}"] = (2, beyond(one), True)
    for name, (rows, length, padded) in wanted.items():
        if name.startswith("beyond") and length > most:
            continue
        sizes = {**traced, **_sizes(symbols, rows if together else 1, min(length, most))}
        subject.write(graph.case(Variation(name, sizes, padded=padded and together), length=min(length, most)))


#: Detectors that sort their outputs by score. The order of equal scores is arbitrary, so that outputs at other sizes
#: cannot be compared; their processors use one size only.
SORTED = ("rt_detr", "rt_detr_v2", "d_fine")


def subject_type(subject: Subject) -> str | None:
    """The original's model type."""
    return getattr(subject.config, "model_type", None)


def _sizes(symbols: tuple[int | str, ...], rows: int, length: int) -> dict[str, int]:
    found = {symbols[0]: rows, symbols[-1]: length}
    return {symbol: size for symbol, size in found.items() if isinstance(symbol, str)}


def _write_other(subject: Subject, graph: Single, findings: Findings) -> None:
    """Vary one kind of axis at a time; a kind with a size that does not work is declared fixed."""
    file, fixed = subject.exported.graphs[GRAPH], subject.exported.fixed.get(GRAPH, {})
    done, declined = _run_variations(graph, image_size(subject.exported.config), findings.max_length, fixed)
    sorts = subject_type(subject) in SORTED
    subject.release(findings)
    calls = [(case.calls[0].inputs, case.calls[0].outputs) for _, case in done]
    passed = works(file, [*calls, *((inputs, None) for _, inputs in declined)])
    tried = [one for one, _ in done] + [one for one, _ in declined]
    refused = {one.kind for one, fine in zip(tried, passed, strict=True) if one.kind and not fine}
    other_sizes = {one.kind for one, _ in done if one.name != IMAGE}
    refused |= {one.kind for one, _ in declined if one.kind} - other_sizes
    if sorts:
        refused.add("size")
    fine = [pair for pair, good in zip(done, passed, strict=False) if good]
    base = next((one for one, _ in fine if one.name == IMAGE), done[0][0])
    for one, case in done:
        if one.kind not in refused or one is base:
            subject.write(case)
    if refused or fixed:
        fix_axes(file, _fixed_axes(graph.signature, base, refused | {"channel"}, fixed))


def _run_variations(
    graph: Single, image: tuple[int, int] | None, longest: int | None, fixed: Mapping[str, Mapping[int, int]]
) -> tuple[list[tuple[Variation, ReferenceCase]], list[tuple[Variation, Arrays]]]:
    """The cases of the original, and the inputs that it does not support."""
    done: list[tuple[Variation, ReferenceCase]] = []
    declined: list[tuple[Variation, Arrays]] = []
    for one in variations(graph.traced, image=image, longest=longest, stride=graph.stride):
        try:
            done.append((one, graph.case(one)))
        except SHAPE_ERRORS:
            if one.kind is None:
                raise
            declined.append((one, graph.inputs(one)))
    return done, declined


def _fixed_axes(
    signature: Signature, base: Variation, refused: set[str], fixed: Mapping[str, Mapping[int, int]]
) -> dict[str, dict[int, int]]:
    """Input -> axis -> its fixed size."""
    final = {name: dict(axes) for name, axes in fixed.items()}
    for symbol, places in signature.symbols().items():
        if kind_of(symbol) in refused:
            for name, axis in places:
                final.setdefault(name, {})[axis] = base.sizes[symbol]
    return final


class Single:
    """The original and a graph with the inputs of its ``forward``."""

    def __init__(self, subject: Subject, name: str) -> None:
        self.signature = subject.signatures[name]
        self._name, self._subject = name, subject
        self._config = subject.exported.parts.get(name) or subject.exported.config
        text_only = set(self.signature.inputs) <= TEXT_INPUTS  # generated here, whatever the exporter traced with
        self._examples = {} if text_only else examples(self._config)
        self._vocabulary = Vocabulary(subject.config, subject.rng)
        self.traced = traced_sizes(self.signature, self._examples, subject.config)
        self.stride = frame_stride(subject.config)
        self._compared_runs = False

    def bytes_per_token(self, symbols: tuple[int | str, ...]) -> int:
        """Bytes that one token adds to the outputs at most."""
        sizes = dict.fromkeys((symbol for symbol in symbols if isinstance(symbol, str)), 1)
        answer = self.answer(self.inputs(Variation("", {**self.traced, **sizes, **_sizes(symbols, 1, 2)})))
        return max(1, sum(value.nbytes for value in answer.values()) // 2)

    def case(self, one: Variation, *, length: int | None = None) -> ReferenceCase:
        """Run the original at these sizes."""
        inputs = self.inputs(one)
        outputs = self.answer(inputs)
        if not self._compared_runs:
            self._compared_runs = True
            refuse_random(outputs, self.answer(inputs), type(self._subject.model).__name__)
        return ReferenceCase(one.name, (Call(self._name, inputs, outputs, masks=_masks(inputs, outputs)),), length)

    def rows_are_independent(self, symbols: tuple[int | str, ...], length: int) -> bool:
        """Whether a padded row has the same outputs as alone without padding.

        Convolutions over tokens also read padding, and some models change with the share of padding. Texts of such a
        model run one by one. A model whose text has further axes, or that does not take these sizes, counts as one
        whose rows are independent.
        """
        if len(symbols) != 2 or "attention_mask" not in self.signature.inputs or length < 2:
            return True
        sizes = {**self.traced, **_sizes(symbols, 2, length)}
        given = self.inputs(Variation("", sizes, padded=True))
        kept = int(given["attention_mask"][1].sum())
        mask = getattr(self._subject.config, "mask_token_id", None)
        if isinstance(mask, int):
            given["input_ids"][:, kept // 2] = mask  # esm scales by the share of masks in a row
        row = {name: value[1:, :kept] for name, value in given.items()}
        try:
            both, alone = self.answer(given), self.answer(row)
        except SHAPE_ERRORS:
            return True
        return all(_equal(both[name][1], alone[name][0], kept) for name in alone)

    def inputs(self, one: Variation) -> Arrays:
        """Inputs of these sizes."""
        return dict(self._inputs(one))

    def _inputs(self, one: Variation) -> Iterator[tuple[str, Any]]:
        tensors, text = self.signature.inputs, {}
        if "input_ids" in tensors:
            shape = resolve(tensors["input_ids"].shape, one.sizes)
            text = self._vocabulary.text(ragged_mask(shape, padded=one.padded and "attention_mask" in tensors))
            self._place_images(text["input_ids"])
        for name, tensor in tensors.items():
            shape = resolve(tensor.shape, one.sizes)
            if name in text and text[name].shape == shape:
                yield name, text[name].astype(tensor.dtype)
            elif name == "attention_mask":
                yield name, ragged_mask(shape, padded=one.padded).astype(tensor.dtype)
            else:
                yield (
                    name,
                    other_input(tensor, shape, self._subject.config, self._subject.rng, self._examples.get(name)),
                )

    def _place_images(self, tokens: Any) -> None:
        """Put the image tokens where the exporter had them."""
        example = self._examples.get("input_ids")
        for config in (self._subject.config, getattr(self._subject.config, "vlm_config", None)):
            token = getattr(config, "image_token_index", None) or getattr(config, "image_token_id", None)
            if token is not None and example is not None and "pixel_values" in self.signature.inputs:
                count = int((example[0] == token).sum())
                tokens[:, :count] = token
                return

    def answer(self, inputs: Arrays) -> Arrays:
        """The original's outputs that the graph has too, by the graph's names.

        Raises:
            Refused: the graph has an output that the original does not have.
        """
        names = {onnx: name for name, onnx in getattr(self._config, "torch_to_onnx_input_map", {}).items()}
        given = {names.get(name, name): value for name, value in inputs.items()}
        accepted = inspect.signature(self._subject.model.forward).parameters
        without = "use_cache" in accepted and subject_type(self._subject) != "imagegpt"  # fails without a cache
        options = {"use_cache": False} if without else {}
        found = dict(
            _flat(
                run_model(self._subject.model, given, **options), getattr(self._config, "torch_to_onnx_output_map", {})
            )
        )
        wanted = list(self.signature.outputs)
        if not set(wanted) <= set(found) and len(found) == len(wanted):
            found = dict(zip(wanted, found.values(), strict=True))  # the export names them in their order
        missing = [name for name in wanted if name not in found]
        if missing:
            raise Refused("conversion", f"the graph has outputs that the original does not have: {', '.join(missing)}")
        return {name: array(found[name]) for name in wanted}


def _equal(padded: Any, alone: Any, kept: int) -> bool:
    """Whether two outputs of a row are equal; the first may have values at padding."""
    real = padded if padded.shape == alone.shape else padded[:kept]
    scale = max(1.0, float(np.abs(alone).max(initial=0.0)))
    return real.shape != alone.shape or bool((np.abs(real - alone) <= SAME * scale).all())


def _flat(outputs: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Tensors by name; those of a tuple are numbered, and nested tuples flattened, as in Optimum."""
    for name, value in outputs.items():
        if isinstance(value, torch.Tensor):
            yield names.get(name, name), value
        elif isinstance(value, (tuple, list)):
            tensors = [inner for one in value for inner in (one if isinstance(one, (tuple, list)) else [one])]
            yield from (
                (f"{names.get(name, name)}.{number}", one)
                for number, one in enumerate(tensors)
                if isinstance(one, torch.Tensor)
            )


def _masks(inputs: Arrays, outputs: Arrays) -> Arrays:
    """Masks that exclude padding from outputs with one value for each token."""
    mask = inputs.get("attention_mask")
    if mask is None or mask.all() or mask.ndim != 2:
        return {}
    real = mask == 1
    return {name: real for name, value in outputs.items() if value.shape[:2] == mask.shape and mask.shape[1] > 1}
