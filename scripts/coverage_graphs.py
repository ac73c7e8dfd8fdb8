"""The two sides of the independent check: a stored graph on plain onnxruntime, the original model on torch.

Runs in a toolchain's interpreter and imports nothing from gpux, so that it shares no mistake with gpux's proof.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
Shape = tuple[int | str | None, ...]

_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


class RefusedRun(Exception):
    """The graph or the original failed on these inputs."""


class Graph:
    """One ONNX file with the size limits from its metadata (``gpux.limits``)."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 2
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs: dict[str, tuple[Any, Shape]] = {
            value.name: (_TYPES.get(value.type, np.float32), tuple(value.shape)) for value in self._session.get_inputs()
        }
        self.outputs = [value.name for value in self._session.get_outputs()]
        self.limits = _limits(self._session.get_modelmeta().custom_metadata_map)

    def largest(self, *names: str) -> int:
        """The smallest limit on any axis of these inputs; a large number without a limit."""
        found = [size for name in names for size in self.limits.get(name, {}).values()]
        return min(found, default=1 << 30)

    def run(self, feed: Mapping[str, NDArray[Any]]) -> Arrays:
        """Every output by name.

        Raises:
            RefusedRun: onnxruntime failed, or a limit forbids the inputs.
        """
        for name, axes in self.limits.items():
            for axis, largest in axes.items():
                if name in feed and feed[name].shape[axis] > largest:
                    raise RefusedRun(f"limited to {largest} on axis {axis} of {name}")
        try:
            return dict(zip(self.outputs, self._session.run(self.outputs, dict(feed)), strict=True))
        except Exception as exc:
            raise RefusedRun(f"onnxruntime: {str(exc).strip().splitlines()[0][:160]}") from exc


def _limits(metadata: Mapping[str, str]) -> dict[str, dict[int, int]]:
    found = json.loads(metadata.get("gpux.limits", "{}"))
    return {name: {int(axis): size for axis, size in axes.items()} for name, axes in found.items()}


class Original:
    """The model that a folder's config.json names, unpatched, in float32."""

    def __init__(self, folder: Path, class_name: str | None) -> None:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        name = class_name or (config.architectures or ["AutoModel"])[0]
        model_class = getattr(transformers, name)
        self.config = config
        self._model = model_class.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
        self.accepts = set(inspect.signature(self._model.forward).parameters)

    def run(self, inputs: Mapping[str, NDArray[Any]], **more: Any) -> list[tuple[str, NDArray[Any]]]:
        """Every tensor of the output with its path, such as ``logits`` or ``hidden_states.0``.

        Raises:
            RefusedRun: the model failed.
        """
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}
        try:
            with torch.no_grad():
                model = copy.deepcopy(self._model)  # a call can change a model: big_bird stays dense afterwards
                answer = model(**tensors, **more)
        except Exception as exc:
            raise RefusedRun(f"torch: {type(exc).__name__} {next(iter(str(exc).splitlines()), '')[:160]}") from exc
        return list(_flatten(answer))

    def logits(self, **inputs: Any) -> NDArray[Any]:
        """The logits, without a cache."""
        known = {name: value for name, value in inputs.items() if name in self.accepts}
        more = {"use_cache": False} if "use_cache" in self.accepts else {}
        return dict(self.run(known, **more))["logits"]

    def setting(self, *names: str, default: Any = None) -> Any:
        """The first of these settings in the configuration or its text part."""
        places = [self.config, *(getattr(self.config, part, None) for part in ("text_config", "decoder", "encoder"))]
        for place in places:
            for name in names:
                found = getattr(place, name, None)
                if found is not None and not (isinstance(found, list) and not found):
                    return found
        return default


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Tensors of nested outputs, depth first, with their paths."""
    if isinstance(value, torch.Tensor):
        yield path, value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flatten(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, tuple | list):
        for number, part in enumerate(value):
            yield from _flatten(part, f"{path}.{number}" if path else str(number))
