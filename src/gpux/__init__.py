"""Pull any model of the Hugging Face Hub, get ONNX proven equal to the original, run it without PyTorch.

>>> from gpux import HuggingFaceManager, pipeline
>>> model = HuggingFaceManager().pull_model("sentence-transformers/all-MiniLM-L6-v2")
>>> pipeline("feature-extraction", model=model).encode(["hello"]).shape
(1, 384)

Public names are loaded on first use, so that ``import gpux`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: public name -> module that defines it
_PUBLIC = {
    "CancelToken": "gpux.cancel",
    "Catalogue": "gpux.catalogue.catalogue",
    "Driving": "gpux.variants",
    "Generation": "gpux.runtime.generation.results",
    "GenerationOptions": "gpux.runtime.generation.options",
    "GpuxError": "gpux.errors",
    "Graphs": "gpux.runtime.graphs",
    "HuggingFaceManager": "gpux.managers.huggingface",
    "LocalManager": "gpux.managers.local",
    "Manifest": "gpux.variants",
    "ModelDescription": "gpux.know.describing",
    "ModelFile": "gpux.types",
    "ModelInfo": "gpux.types",
    "ModelManager": "gpux.managers.base",
    "ModelRef": "gpux.reference",
    "Pipeline": "gpux.pipelines.base",
    "Proof": "gpux.variants",
    "Revision": "gpux.types",
    "Selection": "gpux.formats",
    "Session": "gpux.runtime.session",
    "Settings": "gpux.settings",
    "Store": "gpux.store",
    "StoredModel": "gpux.variants",
    "TensorSpec": "gpux.variants",
    "TextStreamer": "gpux.pipelines.streaming",
    "describe_model": "gpux.know.describing",
    "explain_model": "gpux.pulling.pull",
    "import_model": "gpux.catalogue.importing",
    "pipeline": "gpux.pipelines",
    "pull_files": "gpux.pulling.files",
    "pull_model": "gpux.pulling.pull",
    "pull_models": "gpux.pulling.several",
}

__all__ = [
    "CancelToken",
    "Catalogue",
    "Driving",
    "Generation",
    "GenerationOptions",
    "GpuxError",
    "Graphs",
    "HuggingFaceManager",
    "LocalManager",
    "Manifest",
    "ModelDescription",
    "ModelFile",
    "ModelInfo",
    "ModelManager",
    "ModelRef",
    "Pipeline",
    "Proof",
    "Revision",
    "Selection",
    "Session",
    "Settings",
    "Store",
    "StoredModel",
    "TensorSpec",
    "TextStreamer",
    "__version__",
    "describe_model",
    "errors",
    "explain_model",
    "import_model",
    "pipeline",
    "pull_files",
    "pull_model",
    "pull_models",
]

if TYPE_CHECKING:
    from gpux import errors
    from gpux.cancel import CancelToken
    from gpux.catalogue.catalogue import Catalogue
    from gpux.catalogue.importing import import_model
    from gpux.errors import GpuxError
    from gpux.formats import Selection
    from gpux.know.describing import ModelDescription, describe_model
    from gpux.managers.base import ModelManager
    from gpux.managers.huggingface import HuggingFaceManager
    from gpux.managers.local import LocalManager
    from gpux.pipelines import pipeline
    from gpux.pipelines.base import Pipeline
    from gpux.pipelines.streaming import TextStreamer
    from gpux.pulling.files import pull_files
    from gpux.pulling.pull import explain_model, pull_model
    from gpux.pulling.several import pull_models
    from gpux.reference import ModelRef
    from gpux.runtime.generation.options import GenerationOptions
    from gpux.runtime.generation.results import Generation
    from gpux.runtime.graphs import Graphs
    from gpux.runtime.session import Session
    from gpux.settings import Settings
    from gpux.store import Store
    from gpux.types import ModelFile, ModelInfo, Revision
    from gpux.variants import Driving, Manifest, Proof, StoredModel, TensorSpec


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("gpux.errors")
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'gpux' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
