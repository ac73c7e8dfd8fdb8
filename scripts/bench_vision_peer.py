"""Answers questions about pictures with gpux or transformers in a separate process, for ``scripts.bench_vision``.

Usage: bench_vision_peer.py (gpux|transformers) MODEL THREADS. Imports nothing from this repository, so that the
toolchain's interpreter can run it. Each line of its input, ``[files, batch_size]`` in JSON, gives one line: seconds of
the wall clock, and of the processor.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def classifier(peer: str, model: str, threads: int) -> Any:
    """The pipeline, with the image processor that resizes by Pillow on both sides."""
    if peer == "gpux":
        from gpux import pipeline

        return pipeline("image-classification", model, threads=threads)
    import torch
    from transformers import AutoImageProcessor
    from transformers import pipeline as reference

    torch.set_num_threads(threads)
    processor = AutoImageProcessor.from_pretrained(model, use_fast=False)
    return reference("image-classification", model=model, image_processor=processor, device="cpu")


def main() -> None:
    """Open the pipeline, and time a call for each line of the input."""
    peer, model, threads = sys.argv[1:]
    classify = classifier(peer, model, int(threads))
    print("ready", flush=True)
    for line in sys.stdin:
        files, size = json.loads(line)
        wall, busy = time.perf_counter(), time.process_time()
        classify(files[0] if len(files) == 1 else files, batch_size=size)
        print(time.perf_counter() - wall, time.process_time() - busy, flush=True)


if __name__ == "__main__":
    main()
