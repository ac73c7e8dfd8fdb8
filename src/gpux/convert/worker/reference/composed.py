"""Reference cases for models of several parts other than an encoder and a decoder."""

from __future__ import annotations

import numpy as np
import torch

from gpux.convert.reference_case import Call, ReferenceCase
from gpux.convert.worker.common.graphs import resolve
from gpux.convert.worker.reference.inputs import other_input
from gpux.convert.worker.reference.seq2seq import write_seq2seq
from gpux.convert.worker.reference.subject import Findings, Subject, array, refuse_random, run_model
from gpux.system.worker_protocol import Refused

IMAGE, MASKS = "vision_encoder", "prompt_encoder_mask_decoder"
TEXT, SOUND, DELAY = "text_encoder", "audio_decoder", "build_delay_pattern_mask"


def write_composed(subject: Subject) -> Findings:
    """Write the cases.

    Raises:
        Refused: there is no procedure for these parts, or their outputs are not reproducible.
    """
    names = set(subject.signatures)
    if names == {IMAGE, MASKS}:
        return _write_masks(subject)
    if {TEXT, "decoder", SOUND, DELAY} <= names:
        return _write_music(subject)
    kind = subject.config.model_type
    if kind == "speecht5":
        raise Refused(
            "conversion",
            "not reproducible: the decoder of speecht5 applies dropout at inference, so that nothing can be proven",
        )
    raise Refused("conversion", f"gpux has no proof for {kind} in the parts {', '.join(sorted(names))}")


def _write_masks(subject: Subject) -> Findings:
    """Segment Anything: an image once, then points in it."""
    for name, rows, prompts, points in (("batch", 2, 3, 2), ("short", 1, 1, 1), ("points", 1, 2, 5)):
        subject.write(
            _masks_case(subject, name, {"batch_size": rows, "point_batch_size": prompts, "nb_points_per_image": points})
        )
    findings = Findings()
    subject.release(findings)
    return findings


def _masks_case(subject: Subject, name: str, sizes: dict[str, int]) -> ReferenceCase:
    image, masks = subject.signatures[IMAGE], subject.signatures[MASKS]
    made = {
        one.name: other_input(one, resolve(one.shape, sizes), subject.config, subject.rng, None)
        for one in (*image.inputs.values(), *masks.inputs.values())
        if not one.name.startswith("image_")
    }
    with torch.inference_mode():
        embeddings = array(subject.model.get_image_embeddings(torch.from_numpy(made["pixel_values"])))
    answers = run_model(subject.model, made)
    found = {one: array(answers[one]) for one in masks.outputs}
    again = run_model(subject.model, made)
    refuse_random(found, {one: array(again[one]) for one in masks.outputs}, type(subject.model).__name__)
    prompt = {one: value for one, value in made.items() if one in masks.inputs}
    carry = {one: (0, one) for one in masks.inputs if one.startswith("image_")}
    first = Call(IMAGE, {"pixel_values": made["pixel_values"]}, {"image_embeddings": embeddings})
    return ReferenceCase(name, (first, Call(MASKS, prompt, found, carry)))


def _write_music(subject: Subject) -> Findings:
    """musicgen: text to codes, codes to audio, and the delay pattern of the codebooks."""
    model, books = subject.model, int(subject.config.decoder.num_codebooks)
    findings = write_seq2seq(subject, TEXT, books)
    for name, rows, length in (("sound", 3, 17), ("sound-short", 1, 5)):
        codes = subject.rng.integers(0, int(subject.config.audio_encoder.codebook_size), (1, rows, books, length))
        with torch.inference_mode():
            sound = model.audio_encoder.decode(torch.from_numpy(codes), [None] * rows).audio_values
        subject.write(ReferenceCase(name, (Call(SOUND, {"audio_codes": codes}, {"audio_values": array(sound)}),)))
    shape = resolve(subject.signatures[DELAY].inputs["input_ids"].shape[1:], {})
    for name, rows, longest in (("delay", 3, 40), ("delay-short", 1, 24)):
        tokens = subject.rng.integers(0, int(subject.config.decoder.vocab_size), (rows * books, *shape))
        pad = int(subject.config.decoder.pad_token_id)
        edited, mask = model.decoder.build_delay_pattern_mask(torch.from_numpy(tokens), pad, longest)
        inputs = {"input_ids": tokens, "pad_token_id": np.array([pad]), "max_length": np.array([longest])}
        outputs = {"input_ids_edited": array(edited), "delay_pattern_mask": array(mask)}
        subject.write(ReferenceCase(name, (Call(DELAY, inputs, outputs),)))
    subject.release(findings)
    return findings
