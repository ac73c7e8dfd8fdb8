from __future__ import annotations

import pytest

from gpux.inspect.formats import onnx_precisions, onnx_variants, runnable_graphs, shipped_onnx
from tests.inspect.formats.listings import BY_PARTS, GEMMA, GPT2, MINILM, WHISPER


@pytest.mark.parametrize(
    ("graph", "part", "precision", "machine"),
    [
        ("onnx/model.onnx", "model", "fp32", None),
        ("onnx/model_fp16.onnx", "model", "fp16", None),
        ("onnx/model_q8.onnx", "model", "int8", None),
        ("onnx/model_q2f16.onnx", "model", "q2f16", None),
        ("onnx/model_q1.onnx", "model", "q1", None),
        ("onnx/decoder_model_merged_q4f16.onnx", "decoder_model_merged", "q4f16", None),
        ("onnx/prepare_inputs_embeds_bnb4.onnx", "prepare_inputs_embeds", "bnb4", None),
        ("model-int8.onnx", "model", "int8", None),
        ("encoder.int8.onnx", "encoder", "int8", None),
        ("onnx/model_O4.onnx", "model", "fp16", None),
        ("onnx/model_qint8_avx512_vnni.onnx", "model", "int8", "avx512_vnni"),
        ("onnx/model_quint8_avx2.onnx", "model", "uint8", "avx2"),
        ("onnx/fp16/model.onnx", "model", "fp16", None),
        ("onnx/gpu/model.onnx", "model", "fp32", "gpu"),
        ("onnx/gpu/fp16/model.onnx", "model", "fp16", "gpu"),
        ("cpu_and_mobile/cpu-int4-rtn-block-32/phi3.onnx", "phi3", "int4", None),
        ("unet/model.onnx", "model", "fp32", None),
    ],
)
def test_part_and_precision_of_a_name(graph: str, part: str, precision: str, machine: str | None) -> None:
    (found,) = onnx_variants([graph])
    assert (found.part, found.precision, found.machine) == (part, precision, machine)
    assert found.plain == (precision == "fp32" and machine is None)


@pytest.mark.parametrize(
    ("listing", "precision", "machine", "graph"),
    [
        ("onnx/model_O4.onnx onnx/model_fp16.onnx", "fp16", None, "onnx/model_fp16.onnx"),
        ("onnx/model_O4.onnx", "fp16", None, "onnx/model_O4.onnx"),
        ("onnx/model_O4.onnx onnx/fp16/model.onnx", "float16", None, "onnx/fp16/model.onnx"),
        ("onnx/model_qint8_arm64.onnx onnx/model_int8.onnx", "int8", None, "onnx/model_int8.onnx"),
        ("onnx/model_int8.onnx onnx/model_quantized.onnx", "q8", None, "onnx/model_quantized.onnx"),
        ("onnx/model_qint8_arm64.onnx onnx/model_int8.onnx", "int8", "aarch64", "onnx/model_qint8_arm64.onnx"),
        (MINILM, "int8", None, None),
        (MINILM, "int8", "arm64", "onnx/model_qint8_arm64.onnx"),
        (MINILM, "int8", "avx512", "onnx/model_qint8_avx512.onnx"),
        (MINILM, "int8", "AVX512_VNNI", "onnx/model_qint8_avx512_vnni.onnx"),
        (MINILM, "int8", "x86_64", None),
        (MINILM, "uint8", None, "onnx/model_quint8_avx2.onnx"),
        (MINILM, "uint8", "avx512", "onnx/model_quint8_avx2.onnx"),
        ("onnx/model_uint8.onnx onnx/model_quint8_avx2.onnx", "uint8", None, "onnx/model_uint8.onnx"),
        ("onnx/model_uint8.onnx onnx/model_quint8_avx2.onnx", "uint8", "avx2", "onnx/model_quint8_avx2.onnx"),
        ("onnx/model_uint8.onnx onnx/model_quint8_avx2.onnx", "uint8", "arm64", "onnx/model_uint8.onnx"),
        ("onnx/model.onnx onnx/gpu/model.onnx", "fp32", None, "onnx/model.onnx"),
        ("onnx/model.onnx onnx/gpu/model.onnx", "fp32", "gpu", "onnx/gpu/model.onnx"),
        ("onnx/gpu/model.onnx", "fp32", None, None),
        ("text_encoder/model.onnx", "fp32", None, None),
    ],
)
def test_the_graph_that_is_preferred(listing: str, precision: str, machine: str | None, graph: str | None) -> None:
    found = shipped_onnx(listing.split(), precision, machine)
    assert (found.graph if found else None) == graph


@pytest.mark.parametrize(
    ("listing", "precision", "found", "graphs"),
    [
        (MINILM, None, "fp32", "onnx/model.onnx"),
        (" ".join(GPT2), None, "fp32", "onnx/decoder_model_merged.onnx"),
        (WHISPER, None, "fp32", "onnx/decoder_model_merged.onnx onnx/encoder_model.onnx"),
        (WHISPER, "bnb4", "bnb4", "onnx/decoder_model_merged_bnb4.onnx onnx/encoder_model_bnb4.onnx"),
        (WHISPER, "q4", None, ""),
        (
            "onnx/encoder_model.onnx onnx/decoder_model.onnx onnx/decoder_with_past_model.onnx",
            None,
            "fp32",
            "onnx/decoder_model.onnx onnx/decoder_with_past_model.onnx onnx/encoder_model.onnx",
        ),
        (
            "onnx/encoder_model.onnx onnx/decoder_model.onnx onnx/decoder_model_merged_q4.onnx",
            "fp32",
            "fp32",
            "onnx/decoder_model.onnx onnx/encoder_model.onnx",
        ),
        # a part exists in another precision only: precisions are never mixed
        ("onnx/embed_tokens_fp16.onnx onnx/decoder_model_merged_q4.onnx", "q4", None, ""),
        ("onnx/embed_tokens_fp16.onnx onnx/decoder_model_merged_q4.onnx", None, None, ""),
        ("onnx/model_q4.onnx onnx/model_q4f16.onnx onnx/model_bnb4.onnx", None, "q4f16", "onnx/model_q4f16.onnx"),
        ("onnx/model.onnx onnx/text_model.onnx onnx/vision_model.onnx", None, "fp32", "onnx/model.onnx"),
        ("text_model_int8.onnx vision_model_int8.onnx", None, "int8", "text_model_int8.onnx vision_model_int8.onnx"),
        (BY_PARTS, None, "fp32", "text_encoder/model.onnx unet/model.onnx vae_decoder/model.onnx"),
        ("onnx/model_no_gather_q4.onnx onnx/model_q4.onnx", "int4", "int4", "onnx/model_q4.onnx"),
        ("cuda/cuda-fp16/phi.onnx cpu/cpu-int4/phi.onnx", None, "int4", "cpu/cpu-int4/phi.onnx"),
        ("", None, None, ""),
    ],
)
def test_the_graphs_of_one_model(listing: str, precision: str | None, found: str | None, graphs: str) -> None:
    named, variants = runnable_graphs(listing.split(), precision)
    assert (named, " ".join(variant.graph for variant in variants)) == (found, graphs)


def test_all_parts_come_with_their_external_data() -> None:
    _, variants = runnable_graphs(GEMMA.split(), "fp32")
    assert [path for variant in variants for path in variant.files] == [
        "onnx/audio_encoder.onnx",
        "onnx/audio_encoder.onnx_data",
        "onnx/decoder_model_merged.onnx",
        "onnx/decoder_model_merged.onnx_data",
        "onnx/decoder_model_merged.onnx_data_1",
        "onnx/embed_tokens.onnx",
        "onnx/embed_tokens.onnx_data",
        "onnx/vision_encoder.onnx",
        "onnx/vision_encoder.onnx_data",
    ]


def test_precisions_of_a_listing() -> None:
    assert onnx_precisions(GEMMA.split()) == ("fp32", "fp16", "int8", "q4f16", "int4")
