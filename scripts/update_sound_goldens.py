"""Write tests/processors/audio/goldens.npz: what transformers' feature extractors make of generated sounds.

Run from the repository's root with the interpreter of the toolchain ``optimum``:
``python scripts/update_sound_goldens.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from transformers.models.auto.feature_extraction_auto import feature_extractor_class_from_name

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.processors.audio.cases import CASES, Case  # noqa: E402
from tests.processors.audio.sounds import tones  # noqa: E402

FILE = ROOT / "tests" / "processors" / "audio" / "goldens.npz"


def reference(case: Case) -> dict[str, Any]:
    """The inputs of the model by name, without the batch axis."""
    extractor = feature_extractor_class_from_name(case.class_name).from_dict(dict(case.settings))
    options: dict[str, Any] = {} if case.attention_mask is None else {"return_attention_mask": case.attention_mask}
    if case.class_name == "UnivNetFeatureExtractor":
        options["generator"] = np.random.default_rng(0)
    found = extractor(tones(case.seconds, case.rate), sampling_rate=case.rate, return_tensors="pt", **options)
    return {name: np.asarray(value)[0] for name, value in found.items()}


def main() -> None:
    """Write the file."""
    arrays = {}
    for case in CASES:
        for name, value in reference(case).items():
            arrays[f"{case.name}/{name}"] = value[..., :: case.keep] if value.dtype.kind == "f" else value
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {len(arrays)} arrays, {FILE.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
