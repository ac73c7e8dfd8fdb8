"""Write src/gpux/processors/audio/classes.json: the settings of transformers' feature extractors of sounds that a
repository may leave out, and the class of each model type.

Run with the interpreter of the toolchain ``optimum``: ``python scripts/update_feature_extractors.py``.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import transformers
from transformers import SequenceFeatureExtractor
from transformers.models.auto.feature_extraction_auto import (
    FEATURE_EXTRACTOR_MAPPING_NAMES,
    feature_extractor_class_from_name,
)

FILE = Path(__file__).resolve().parents[1] / "src/gpux/processors/audio/classes.json"
#: Not in the automatic mapping.
OTHERS = ("MCTCTFeatureExtractor",)


def defaults(kind: type) -> dict[str, Any]:
    """The defaults of the constructor, and those that the base class takes from its keywords."""
    found: dict[str, Any] = {"padding_side": "right", "return_attention_mask": True}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():  # type: ignore[misc]
        if parameter.default is not inspect.Parameter.empty:
            found[name] = parameter.default
    return found


def main() -> None:
    """Write the table."""
    names = sorted({*FEATURE_EXTRACTOR_MAPPING_NAMES.values(), *OTHERS})
    kinds = {name: feature_extractor_class_from_name(name) for name in names}
    sounds = {name: kind for name, kind in kinds.items() if kind and issubclass(kind, SequenceFeatureExtractor)}
    types = {kind: name for kind, name in FEATURE_EXTRACTOR_MAPPING_NAMES.items() if name in sounds}
    table = {
        "transformers": transformers.__version__,
        "model_types": dict(sorted(types.items())),
        "classes": {name: defaults(kind) for name, kind in sounds.items()},
    }
    FILE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {len(sounds)} classes of {len(types)} model types", file=sys.stderr)


if __name__ == "__main__":
    main()
