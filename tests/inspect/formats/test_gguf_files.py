from __future__ import annotations

import pytest

from gpux.inspect.formats.gguf_files import choose_gguf, gguf_label
from gpux.inspect.formats.units import Unit, units


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Llama-3.1-8B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("llama-2-7b.Q5_0.gguf", "Q5_0"),
        ("llama-q4_k_m.gguf", "Q4_K_M"),
        ("m-IQ4_XS.gguf", "IQ4_XS"),
        ("m-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("m.fp16.gguf", "F16"),
        ("m-BF16-*-of-00002.gguf", "BF16"),
        ("Q8_0/model-*-of-00003.gguf", "Q8_0"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("m-TQ1_0.gguf", "TQ1_0"),
        ("model.gguf", None),
        ("Qwen2.5-3B.gguf", None),
    ],
)
def test_the_quantization_in_a_name(name: str, label: str | None) -> None:
    assert gguf_label(name) == label


@pytest.mark.parametrize(
    ("names", "label", "chosen", "why"),
    [
        ("m-Q8_0.gguf m-Q4_K_M.gguf m-Q2_K.gguf", None, "m-Q4_K_M.gguf", "usual balance"),
        ("m-Q8_0.gguf m-Q6_K.gguf m-Q3_K_L.gguf", None, "m-Q6_K.gguf", "smallest with at least 4 bits"),
        ("m-Q2_K.gguf m-Q3_K_L.gguf", None, "m-Q3_K_L.gguf", "largest"),
        ("m-F16.gguf m-imatrix.gguf mmproj-m-F16.gguf", None, "m-F16.gguf", "only"),
        ("m-Q8_0.gguf m-Q4_K_M.gguf", "q8_0", "m-Q8_0.gguf", "as requested"),
        ("m-Q8_0.gguf m-Q4_K_M.gguf", "int8", "m-Q8_0.gguf", "as requested"),
        ("m-Q8_0.gguf m-Q4_K_M.gguf", "Q5_K_S", None, ""),
        ("b/m-Q4_K_M.gguf m-Q4_K_M.gguf", None, "m-Q4_K_M.gguf", "usual"),
        ("mmproj-F16.gguf", None, None, ""),
    ],
)
@pytest.mark.parametrize("sized", [True, False])
def test_the_selected_file(names: str, label: str | None, chosen: str | None, why: str, sized: bool) -> None:
    bits = {"Q2": 2, "Q3": 3, "Q4": 4, "Q6": 6, "Q8": 8, "F1": 16}

    def size(unit: Unit) -> int | None:
        return bits[(gguf_label(unit.name) or "Q4")[:2]] * 100 if sized else None

    found = choose_gguf(units(names.split()), label, size)
    assert (found[0].name if found else None) == chosen
    assert found is None or why in found[1]


def test_sizes_decide_among_the_same_bits() -> None:
    sizes = {"m-Q4_0.gguf": 300, "m-IQ4_XS.gguf": 200, "m-Q5_K_S.gguf": 250}
    found = choose_gguf(units(sizes), None, lambda unit: sizes[unit.name])
    assert found is not None
    assert found[0].name == "m-IQ4_XS.gguf"
