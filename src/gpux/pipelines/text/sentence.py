"""Sentence vectors as sentence-transformers computes them: the repository's modules, pooling, and the layers after it.

``modules.json`` lists the modules in order (:mod:`gpux.inspect.modules`). An unsupported module is refused, because
skipping it would silently change the vectors.

Formulas: ``sentence_transformers/sentence_transformer/modules/pooling.py`` (the path for padded batches),
``sentence_transformers/base/modules/dense.py`` and ``sentence_transformer/modules/`` of 5.7, and the torch functions
that they call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import safetensors
from numpy.typing import NDArray

from gpux.errors import CorruptFileError, UnsupportedError, UsageError
from gpux.inspect import modules
from gpux.inspect.modules import MODULES, Module
from gpux.model.json_file import load_json
from gpux.model.variant import StoredModel
from gpux.pipelines.text.vectors import normalized
from gpux.runtime.numeric import sigmoid

Floats = NDArray[np.float32]

_KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_TRANSFORMER_FILES = tuple(f"sentence_{kind}_config.json" for kind in _KINDS)
#: keys of 1_Pooling/config.json up to version 4 -> mode, in the order in which the results are concatenated
_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


# -- the repository's files --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SentenceConfig:
    """How sentence vectors are computed from token vectors."""

    pooling: tuple[str, ...] = ("mean",)  #: pooling modes; their results are concatenated
    include_prompt: bool = True  #: whether the prompt's tokens are pooled too
    layers: tuple[Layer, ...] = ()  #: modules after the pooling, in order
    max_seq_length: int | None = None  #: limit of tokens per text; None: the tokenizer's and the graph's limits hold
    lower_case: bool = False
    folder: str = ""  #: subfolder of the transformer's own files
    prompts: Mapping[str, str] | None = None
    default_prompt_name: str | None = None
    truncate_dim: int | None = None  #: leading dimensions to keep

    def prompt(self, prompt: str | None, prompt_name: str | None) -> str:
        """The text put before every input: the given prompt, the named one, or the repository's default.

        Raises:
            UsageError: the repository has no prompt of that name.
        """
        prompts = self.prompts or {}
        if prompt is not None:
            return prompt
        name = prompt_name if prompt_name is not None else self.default_prompt_name
        if name is None:
            return ""
        if name not in prompts:
            raise UsageError(f"the model has no prompt {name!r}", hint=f"It has: {', '.join(prompts) or 'none'}.")
        return prompts[name] or ""


def read_sentence_config(model: StoredModel) -> SentenceConfig:
    """Read modules.json and the files of each module.

    Without modules.json: mean pooling, or the last token for a causal language model, as sentence-transformers does.

    Raises:
        UnsupportedError: an unsupported module, pooling mode or option.
        CorruptFileError: one of the files cannot be read.
    """
    listed = read_modules(model)
    if not listed:
        return SentenceConfig(pooling=(_fallback_pooling(model),), **_prompts(model))
    kind = _settings(model).get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise _refused(model, f"its model type in sentence-transformers is {kind}, not SentenceTransformer")
    found: dict[str, Any] = {"layers": ()}
    for index, module in enumerate(listed):
        name = _module_name(model, module)
        if (index == 0) != (name == "Transformer"):
            raise _refused(model, f"module {index} is {name}")
        _READERS.get(name, partial(_read_layer, name))(model, module.folder, found)
    if "pooling" not in found:
        raise _refused(model, "no module pools the token vectors")
    return SentenceConfig(**found, **_prompts(model))


def read_own_config(model: StoredModel) -> SentenceConfig:
    """The same for a graph that computes the vectors itself: limits, prompts, and whether they are normalized.

    The modules are part of the graph, so their files are not needed: weights may be missing, or a module unknown here.

    Raises:
        UnsupportedError: the transformer has an unsupported option.
        CorruptFileError: one of the files cannot be read.
    """
    listed = read_modules(model)
    if not listed:
        return SentenceConfig(**_prompts(model))
    found: dict[str, Any] = {}
    _read_transformer(model, listed[0].folder, found)
    poolings = [_read_optional(model.path / one.folder / "config.json") for one in listed if one.name == "Pooling"]
    found["include_prompt"] = all(config.get("include_prompt", True) for config in poolings)
    found["layers"] = (Normalize(),) if any(one.name == "Normalize" for one in listed) else ()
    return SentenceConfig(**found, **_prompts(model))


def read_ranking_config(model: StoredModel) -> SentenceConfig:
    """Limits and prompts of a cross-encoder, which has one module, or no ``modules.json``.

    Raises:
        UnsupportedError: it has other modules, or the options of its transformer are unsupported.
        CorruptFileError: one of the files cannot be read.
    """
    listed = read_modules(model)
    names = [module.name or module.reference for module in listed]
    if names not in ([], ["Transformer"]):
        raise UnsupportedError(
            f"{model.id} cannot rank texts: its modules are {', '.join(names)}, and a cross-encoder is one Transformer",
            hint=f"Its logits are available: gpux.pipeline('text-classification', model={model.id!r}).",
            model=model.id,
        )
    found: dict[str, Any] = {}
    if listed:
        _read_transformer(model, listed[0].folder, found, "sequence-classification")
    return SentenceConfig(**found, **_prompts(model, ()))


@dataclass(frozen=True)
class SparseConfig:
    """How sparse vectors are computed from the logits of tokens."""

    sentence: SentenceConfig = SentenceConfig()  #: limits and prompts
    pooling: str = "max"
    activation: str = "relu"


def read_sparse_config(model: StoredModel) -> SparseConfig:
    """The SpladePooling of a model; the largest weight of each entry where it has no modules.

    Raises:
        UnsupportedError: it has other modules, or an unsupported option.
        CorruptFileError: one of the files cannot be read.
    """
    listed = read_modules(model)
    names = [module.name or module.reference for module in listed]
    if listed and (len(names) != 2 or names[0] not in ("Transformer", "MLMTransformer") or names[1] != "SpladePooling"):
        raise UnsupportedError(
            f"{model.id} has no sparse vectors of this kind: its modules are {', '.join(names)}, not a Transformer and "
            "a SpladePooling",
            hint=f"Its words for masks are available: gpux.pipeline('fill-mask', model={model.id!r}).",
            model=model.id,
        )
    found: dict[str, Any] = {}
    config: dict[str, Any] = {}
    if listed:
        _read_transformer(model, listed[0].folder, found, "fill-mask")
        config = _read_optional(model.path / listed[1].folder / "config.json")
    return SparseConfig(
        SentenceConfig(**found, **_prompts(model)),
        config.get("pooling_strategy") or "max",
        config.get("activation_function") or "relu",
    )


def dense_layers(model: StoredModel) -> int:
    """How many Dense modules a model has."""
    return sum(module.name == "Dense" for module in read_modules(model))


def read_modules(model: StoredModel) -> tuple[Module, ...]:
    """The modules of a variant; none without ``modules.json``.

    Raises:
        CorruptFileError: the file cannot be read.
    """
    file = model.path / MODULES
    return modules.parse_modules(_read(file), str(file)) if file.is_file() else ()


def transformer_folder(model: StoredModel) -> str:
    """Subfolder of the transformer's files, its tokenizer included; for most models the variant's folder itself.

    A pull puts these files at the top, whatever their folder is in the repository.
    """
    try:
        folder = modules.transformer_folder(read_modules(model))
    except CorruptFileError:  # reported where the modules are needed
        return ""
    return folder if (model.path / folder).is_dir() else ""


def _settings(model: StoredModel) -> dict[str, Any]:
    return model.read_json("config_sentence_transformers.json")


def _prompts(model: StoredModel, names: Sequence[str] = ("query", "document")) -> dict[str, Any]:
    """Prompts and the dimensions to keep; a prompt of these names is empty where the repository has none."""
    settings = _settings(model)
    return {
        "prompts": {**dict.fromkeys(names, ""), **(settings.get("prompts") or {})},
        "default_prompt_name": settings.get("default_prompt_name"),
        "truncate_dim": settings.get("truncate_dim"),
    }


def _fallback_pooling(model: StoredModel) -> str:
    config = model.read_json("config.json")
    architecture = next(iter(config.get("architectures") or ()), "")
    return "lasttoken" if architecture.endswith("ForCausalLM") and config.get("is_causal", True) else "mean"


def _module_name(model: StoredModel, module: Module) -> str:
    name = module.name
    if name is None or (name not in _READERS and name not in LAYERS):
        raise _refused(model, f"modules.json names {module.reference}")
    return name


def _read_transformer(model: StoredModel, path: str, found: dict[str, Any], task: str = "feature-extraction") -> None:
    folder = model.path / (path if (model.path / path).is_dir() else "")
    present = [name for name in _TRANSFORMER_FILES if (folder / name).is_file()]
    config = _read_object(folder / present[0]) if present else {}
    declared = config.get("transformer_task", task)
    modalities = config.get("modality_config", {"text": {}})
    if declared != task or "text" not in modalities or "message" in modalities:
        raise _refused(model, f"its transformer runs {declared} on {', '.join(modalities)}")
    if config.get("processing_kwargs"):
        raise _refused(model, f"its transformer has processing_kwargs {config['processing_kwargs']}")
    found["folder"] = transformer_folder(model)
    found["max_seq_length"] = config.get("max_seq_length")
    found["lower_case"] = bool(config.get("do_lower_case"))


def _read_pooling(model: StoredModel, path: str, found: dict[str, Any]) -> None:
    config = _read_object(model.path / path / "config.json")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _LEGACY_MODES.items() if config.get(key)] or ["mean"]
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise _refused(model, f"it pools by {', '.join(unknown)}")
    if "pooling" in found or found["layers"]:
        raise _refused(model, "it pools twice, or after another layer")
    found["pooling"] = modes
    found["include_prompt"] = config.get("include_prompt", True)


def _read_layer(name: str, model: StoredModel, path: str, found: dict[str, Any]) -> None:
    if "pooling" not in found:
        raise _refused(model, f"{name} comes before the pooling")
    found["layers"] += (LAYERS[name](model.path / path),)


_READERS: dict[str, Callable[[StoredModel, str, dict[str, Any]], None]] = {
    "Transformer": _read_transformer,
    "Pooling": _read_pooling,
}


def _read_optional(file: Path) -> dict[str, Any]:
    found = _read(file) if file.is_file() else {}
    return found if isinstance(found, dict) else {}


def _read_object(file: Path) -> dict[str, Any]:
    found = _read(file)
    if not isinstance(found, dict):
        raise CorruptFileError(f"{file} is not a JSON object", hint="Run `gpux verify`.", path=file)
    return found


def _read(file: Path) -> Any:
    try:
        return load_json(file)
    except OSError as exc:
        raise CorruptFileError(f"{file} cannot be read: {exc}", hint="Run `gpux verify`.", path=file) from exc


def _refused(model: StoredModel, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{model.id} cannot compute sentence vectors: {why}",
        hint=f"Its token vectors are available: pipeline('feature-extraction', model={model.id!r})(text).",
        model=model.id,
    )


# -- pooling: token vectors to one vector per text ---------------------------------------------------------------------


_TINY = np.float32(1e-9)


def cls(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """The first token of the mask."""
    return _at(tokens, mask.argmax(axis=1))


def mean(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """Mean over the tokens of the mask."""
    weights = mask.astype(np.float32)
    return _floats(_weighted_sum(tokens, weights) / _total(weights))


def mean_sqrt_len(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """Sum over the tokens of the mask, divided by the square root of their number."""
    weights = mask.astype(np.float32)
    return _floats(_weighted_sum(tokens, weights) / np.sqrt(_total(weights)))


def weighted_mean(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """Mean in which the token at position i (from 1, padding included) has the weight i."""
    weights = mask.astype(np.float32) * np.arange(1, mask.shape[1] + 1, dtype=np.float32)
    return _floats(_weighted_sum(tokens, weights) / _total(weights))


def maximum(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """Largest value per dimension over the tokens of the mask."""
    return _floats(np.where(mask[:, :, None] == 0, -np.inf, tokens).max(axis=1))


def last_token(tokens: Floats, mask: NDArray[Any]) -> Floats:
    """The last token of the mask; zeros for an empty mask."""
    found = _at(tokens, mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1))
    return _floats(found * (mask.max(axis=1, keepdims=True) > 0))


#: mode -> function of float32 [batch, tokens, dim] and a mask [batch, tokens] to float32 [batch, dim]; in
#: sentence-transformers' own order
MODES: dict[str, Callable[[Floats, NDArray[Any]], Floats]] = {
    "cls": cls,
    "max": maximum,
    "mean": mean,
    "mean_sqrt_len_tokens": mean_sqrt_len,
    "weightedmean": weighted_mean,
    "lasttoken": last_token,
}


def without_prompt(mask: NDArray[Any], prompt_length: int) -> NDArray[Any]:
    """The mask without the first ``prompt_length`` tokens of each text, whichever side is padded."""
    start = mask.argmax(axis=1)[:, None] + prompt_length
    return np.where(np.arange(mask.shape[1])[None, :] < start, 0, mask)


def _at(tokens: Floats, positions: NDArray[Any]) -> Floats:
    return _floats(tokens[np.arange(len(tokens)), positions])


def _weighted_sum(tokens: Floats, weights: Floats) -> Floats:
    return _floats(np.matmul(weights[:, None, :], tokens)[:, 0, :])


def _total(weights: Floats) -> Floats:
    return _floats(np.maximum(weights.sum(axis=1, keepdims=True), _TINY))


def _floats(values: NDArray[Any]) -> Floats:
    return values.astype(np.float32, copy=False)


# -- layers after the pooling: float32 [batch, dim] to float32 [batch, dim'] -------------------------------------------


class Layer(Protocol):
    """A module after the pooling."""

    normalizes: ClassVar[bool]  #: whether its result has length 1
    width: int | None  #: size of its result; None: as its input
    nbytes: int  #: bytes of its weights

    def __call__(self, vectors: Floats) -> Floats:
        """Apply the layer to float32 [batch, dim]."""
        ...


class Normalize:
    """Rows at length 1, as ``torch.nn.functional.normalize``: a norm below 1e-12 counts as 1e-12."""

    normalizes: ClassVar[bool] = True
    width: int | None = None
    nbytes = 0

    def __init__(self, folder: Path | None = None) -> None:
        """It has no files."""

    def __call__(self, vectors: Floats) -> Floats:
        """Apply the layer to float32 [batch, dim]."""
        return normalized(vectors)


class Dropout:
    """The identity: dropout is a training-time layer."""

    normalizes: ClassVar[bool] = False
    width: int | None = None
    nbytes = 0

    def __init__(self, folder: Path) -> None:
        """Its configuration is not read."""

    def __call__(self, vectors: Floats) -> Floats:
        """Return the vectors unchanged."""
        return vectors


class LayerNorm:
    """``torch.nn.LayerNorm`` over the last axis, with its default epsilon of 1e-5."""

    normalizes: ClassVar[bool] = False
    width: int | None = None

    def __init__(self, folder: Path) -> None:
        weights = _weights(folder)
        self._weight = _tensor(weights, "norm.weight", folder)
        self._bias = _tensor(weights, "norm.bias", folder)
        self.nbytes = self._weight.nbytes + self._bias.nbytes

    def __call__(self, vectors: Floats) -> Floats:
        """Apply the layer to float32 [batch, dim]."""
        centred = vectors - vectors.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + np.float32(1e-5))
        return _floats(centred / deviation * self._weight + self._bias)


class Dense:
    """A linear layer and an activation."""

    normalizes: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        found = _read_object(folder / "config.json")
        config = found if isinstance(found, dict) else {}
        place = config.get("module_input_name", "sentence_embedding")
        if place != "sentence_embedding" or config.get("module_output_name") not in (None, place):
            raise UnsupportedError(f"the Dense layer {folder} reads {place}, not sentence vectors")
        self._activation = _activation(config, folder)
        weights = _weights(folder)
        self._weight = _tensor(weights, "linear.weight", folder)
        self._bias = weights.get("linear.bias", np.zeros(len(self._weight), np.float32))
        self.width: int | None = len(self._weight)
        self.nbytes = self._weight.nbytes + self._bias.nbytes

    def __call__(self, vectors: Floats) -> Floats:
        """Apply the layer to float32 [batch, dim]."""
        return _floats(self._activation(vectors @ self._weight.T + self._bias))


class TokenDense:
    """A linear layer on the vectors of tokens, as ``pylate.models.Dense`` has it."""

    def __init__(self, folder: Path) -> None:
        config = _read_object(folder / "config.json")
        weights = _weights(folder)
        named = config.get("activation_function", "torch.nn.modules.linear.Identity")
        self._activation = _activation({"activation_function": named}, folder)
        self._weight = _tensor(weights, "linear.weight", folder)
        self._bias = weights.get("linear.bias")
        self._residual = bool(config.get("use_residual"))
        self._other = weights.get("residual.weight")

    @classmethod
    def of(cls, weights: Mapping[str, Floats]) -> TokenDense:
        """The layer of a ``linear.weight`` alone."""
        layer = cls.__new__(cls)
        layer._activation, layer._weight = _ACTIVATIONS["Identity"], weights["linear.weight"]
        layer._bias, layer._residual, layer._other = weights.get("linear.bias"), False, None
        return layer

    def __call__(self, vectors: Floats) -> Floats:
        """Apply the layer to float32 [tokens, dim]."""
        found = vectors @ self._weight.T
        found = self._activation(found if self._bias is None else found + self._bias)
        if self._residual:
            found = found + (vectors if self._other is None else vectors @ self._other.T)
        return _floats(found)


#: class name in modules.json -> the layer, opened from its folder
LAYERS: dict[str, Callable[[Path], Layer]] = {
    "Dense": Dense,
    "Dropout": Dropout,
    "LayerNorm": LayerNorm,
    "Normalize": Normalize,
}


def _gelu(x: Floats) -> Floats:
    """``torch.nn.GELU()``: x/2 * (1 + erf(x / sqrt 2)); numpy has no erf, so each element is computed by itself."""
    erf = np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2)).astype(np.float32)
    return _floats(x * np.float32(0.5) * (1 + erf))


_ACTIVATIONS: dict[str, Callable[[Floats], NDArray[Any]]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "Sigmoid": sigmoid,
    "GELU": _gelu,
    "SiLU": lambda x: x / (1 + np.exp(-x)),
    "LeakyReLU": lambda x: np.where(x < 0, x * np.float32(0.01), x),
}


def _activation(config: dict[str, Any], folder: Path) -> Callable[[Floats], NDArray[Any]]:
    """The activation by its torch class; Tanh where the configuration names none, as in sentence-transformers."""
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    short = name.rpartition(".")[2]
    if not name.startswith("torch.") or short not in _ACTIVATIONS:
        raise UnsupportedError(f"the Dense layer {folder} has the activation {name}, which gpux does not support")
    return _ACTIVATIONS[short]


def _weights(folder: Path) -> dict[str, Floats]:
    file = folder / "model.safetensors"
    if not file.is_file():
        raise UnsupportedError(
            f"{folder} has no model.safetensors",
            hint="gpux reads no pickled weights: ask for safetensors in the model's discussions on the Hub.",
            path=folder,
        )
    return read_floats(file)


def _tensor(weights: dict[str, Floats], name: str, folder: Path) -> Floats:
    if name not in weights:
        raise CorruptFileError(f"{folder / 'model.safetensors'} has no tensor {name}", hint="Run `gpux verify`.")
    return weights[name]


_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def read_floats(file: Path) -> dict[str, Floats]:
    """Every float tensor of a safetensors file, by name, as float32; integers are left out.

    Raises:
        CorruptFileError: the file is damaged or not safetensors.
    """
    try:
        tensors: list[tuple[str, dict[str, Any]]] = safetensors.deserialize(  # type: ignore[no-untyped-call] # Rust
            file.read_bytes()
        )
    except safetensors.SafetensorError as exc:
        raise CorruptFileError(
            f"{file} is not a safetensors file: {exc}", hint="Run `gpux verify`.", path=file
        ) from exc
    return {
        name: _array(tensor["dtype"], bytes(tensor["data"])).reshape(tensor["shape"]).astype(np.float32)
        for name, tensor in tensors
        if tensor["dtype"] in ("BF16", *_DTYPES)
    }


def _array(dtype: str, data: bytes) -> NDArray[Any]:
    if dtype == "BF16":  # numpy has no bfloat16: the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, _DTYPES[dtype])
