"""Exports of a small model, as torch writes it and with streamed weights; run by the toolchain's interpreter.

    TOOLCHAIN_PYTHON weights_trial.py SRC FOLDER

Writes ``torch.onnx``, ``apart.onnx``, and ``beside.onnx`` with ``beside.onnx_data``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

ROWS, WIDTH = 300, 40


class Lookup(nn.Module):
    """Weights of all kinds: one used twice, once transposed, one with a bias, integers, booleans, a scalar.

    Ids of (batch, length) give scores of (batch, length, rows).
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, WIDTH)
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("steps", torch.arange(2000))
        self.register_buffer("kept", torch.arange(WIDTH) % 3 > 0)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, ids: Tensor) -> Tensor:
        places = self.steps[: ids.shape[1]].to(torch.float32)[None, :, None]
        hidden = self.inner(self.table(ids)) + places * self.scale
        return torch.where(self.kept, hidden, torch.zeros(())) @ self.table.weight.T


def export(model: nn.Module, file: Path) -> None:
    """Write one graph."""
    axes = {"ids": {0: "batch", 1: "length"}, "scores": {0: "batch", 1: "length"}}
    names = {"input_names": ["ids"], "output_names": ["scores"], "dynamic_axes": axes}
    torch.onnx.export(model, (torch.ones(2, 5, dtype=torch.int64),), f=str(file), **names, dynamo=False)


def main(source: Path, folder: Path) -> None:
    """Write the three graphs."""
    sys.path.insert(0, str(source))
    from gpux.convert.worker.optimum import streaming

    torch.manual_seed(0)
    model = Lookup().eval()
    export(model, folder / "torch.onnx")
    for name, limit in (("apart", streaming.LIMIT), ("beside", 10_000)):
        streaming.LIMIT = limit
        with streaming.without_weights() as weights:
            export(model, folder / f"{name}.onnx")
        streaming.attach(folder / f"{name}.onnx", weights)
    export(model, folder / "again.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
