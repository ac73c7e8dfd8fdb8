"""An independent check of stored variants: the original on torch against plain onnxruntime, with separate inputs.

    TOOLCHAIN_PYTHON -m scripts.coverage_opinion

Runs in the repository's root, with an interpreter that has torch and onnxruntime. Requests are lines of JSON on
standard input (``folder``, ``graphs``: name -> path, ``call_spec``, ``class``), responses are lines of JSON on standard
output. Nothing of gpux is imported, neither its worker nor its proof.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.coverage_decoders import DecoderOpinion
from scripts.coverage_graphs import Graph, Original
from scripts.coverage_pairs import PairOpinion
from scripts.coverage_single import judge_sam, judge_single
from scripts.coverage_verdict import Verdict


def judge(request: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on one stored variant."""
    seed = zlib.crc32(str(request.get("seed", request["folder"])).encode()) ^ 0x5EC0D
    verdict = Verdict()
    graphs = {name: Graph(Path(path)) for name, path in request["graphs"].items()}
    original = Original(Path(request["folder"]), request.get("class"))
    names = set(graphs)
    if {"vision_encoder", "prompt_encoder_mask_decoder"} <= names:
        judge_sam(graphs, original, verdict, seed)
    elif {"encoder", "decoder"} <= names:
        PairOpinion(graphs, original, verdict, seed).judge()
    elif len(names) == 1:
        graph = next(iter(graphs.values()))
        if any(name.startswith("past_key_values") for name in graph.inputs):
            DecoderOpinion(graph, original, dict(request["call_spec"]), verdict, seed).judge()
        else:
            judge_single(graph, original, verdict, seed)
    else:
        verdict.notes.append(f"unknown combination of graphs: {', '.join(sorted(names))}")
    return verdict.to_dict()


def main() -> int:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keep output of libraries out of the responses
    for line in sys.stdin:
        try:
            found = judge(json.loads(line))
        except Exception as exc:  # noqa: BLE001  an exception of a model is reported in its response
            found = {"error": f"{type(exc).__name__}: {str(exc)[:300]}"}
        answers.write(json.dumps(found) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
