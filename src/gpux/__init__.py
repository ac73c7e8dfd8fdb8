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
    "AccessReport": "gpux.huggingface.access",
    "AnswerRow": "gpux.pipelines.base",
    "CancelToken": "gpux.system.cancel",
    "Catalog": "gpux.catalog.catalog",
    "FilesPlan": "gpux.pull.files",
    "Generation": "gpux.runtime.generation.results",
    "GenerationOptions": "gpux.runtime.generation.options",
    "GpuxError": "gpux.errors",
    "Graphs": "gpux.runtime.graphs",
    "Health": "gpux.upkeep.inventory",
    "HuggingFaceManager": "gpux.huggingface.manager",
    "LocalManager": "gpux.managers.local",
    "Manifest": "gpux.model.variant",
    "ModelDescription": "gpux.describe.description",
    "ModelFile": "gpux.model.info",
    "ModelInfo": "gpux.model.info",
    "ModelManager": "gpux.managers.base",
    "ModelRef": "gpux.model.reference",
    "OptionSpec": "gpux.pipelines.options",
    "Pipeline": "gpux.pipelines.base",
    "Proof": "gpux.model.variant",
    "PullOutcome": "gpux.pull.batch",
    "PullPlan": "gpux.pull.plan",
    "QuantizeOptions": "gpux.quantize.methods",
    "Repair": "gpux.upkeep.repair",
    "Revision": "gpux.model.info",
    "RevisionStatus": "gpux.upkeep.outdated",
    "SearchQuery": "gpux.huggingface.search",
    "Selection": "gpux.inspect.formats",
    "Session": "gpux.runtime.session",
    "Settings": "gpux.system.settings",
    "SparseVector": "gpux.pipelines.text.sparse_embedding",
    "Store": "gpux.store",
    "StoredModel": "gpux.model.variant",
    "TaskInfo": "gpux.pipelines.tasks",
    "TensorSpec": "gpux.model.variant",
    "TextStreamer": "gpux.pipelines.generation.streaming",
    "Update": "gpux.upkeep.outdated",
    "check_access": "gpux.huggingface.access",
    "describe_model": "gpux.describe.description",
    "explain_model": "gpux.pull.api",
    "fit_model": "gpux.describe.fitting",
    "import_model": "gpux.catalog.importing",
    "open_model": "gpux.pull.open",
    "outdated": "gpux.upkeep.outdated",
    "pipeline": "gpux.pull.open",
    "plan_files": "gpux.pull.files",
    "plan_model": "gpux.pull.api",
    "pull_files": "gpux.pull.files",
    "pull_model": "gpux.pull.api",
    "pull_models": "gpux.pull.batch",
    "quantize_model": "gpux.quantize.variants",
    "repair_models": "gpux.upkeep.repair",
    "tasks": "gpux.pipelines.tasks",
    "this_machine": "gpux.describe.fitting",
    "update": "gpux.upkeep.outdated",
    "verify_models": "gpux.upkeep.inventory",
}

__all__ = [
    "AccessReport",
    "AnswerRow",
    "CancelToken",
    "Catalog",
    "FilesPlan",
    "Generation",
    "GenerationOptions",
    "GpuxError",
    "Graphs",
    "Health",
    "HuggingFaceManager",
    "LocalManager",
    "Manifest",
    "ModelDescription",
    "ModelFile",
    "ModelInfo",
    "ModelManager",
    "ModelRef",
    "OptionSpec",
    "Pipeline",
    "Proof",
    "PullOutcome",
    "PullPlan",
    "QuantizeOptions",
    "Repair",
    "Revision",
    "RevisionStatus",
    "SearchQuery",
    "Selection",
    "Session",
    "Settings",
    "SparseVector",
    "Store",
    "StoredModel",
    "TaskInfo",
    "TensorSpec",
    "TextStreamer",
    "Update",
    "__version__",
    "check_access",
    "describe_model",
    "errors",
    "explain_model",
    "fit_model",
    "import_model",
    "open_model",
    "outdated",
    "pipeline",
    "plan_files",
    "plan_model",
    "pull_files",
    "pull_model",
    "pull_models",
    "quantize_model",
    "repair_models",
    "tasks",
    "this_machine",
    "update",
    "verify_models",
]

if TYPE_CHECKING:
    from gpux import errors
    from gpux.catalog.catalog import Catalog
    from gpux.catalog.importing import import_model
    from gpux.describe.description import ModelDescription, describe_model
    from gpux.describe.fitting import fit_model, this_machine
    from gpux.errors import GpuxError
    from gpux.huggingface.access import AccessReport, check_access
    from gpux.huggingface.manager import HuggingFaceManager
    from gpux.huggingface.search import SearchQuery
    from gpux.inspect.formats import Selection
    from gpux.managers.base import ModelManager
    from gpux.managers.local import LocalManager
    from gpux.model.info import ModelFile, ModelInfo, Revision
    from gpux.model.reference import ModelRef
    from gpux.model.variant import Manifest, Proof, StoredModel, TensorSpec
    from gpux.pipelines.base import AnswerRow, Pipeline
    from gpux.pipelines.generation.streaming import TextStreamer
    from gpux.pipelines.options import OptionSpec
    from gpux.pipelines.tasks import TaskInfo, tasks
    from gpux.pipelines.text.sparse_embedding import SparseVector
    from gpux.pull.api import explain_model, plan_model, pull_model
    from gpux.pull.batch import PullOutcome, pull_models
    from gpux.pull.files import FilesPlan, plan_files, pull_files
    from gpux.pull.open import open_model, pipeline
    from gpux.pull.plan import PullPlan
    from gpux.quantize.methods import QuantizeOptions
    from gpux.quantize.variants import quantize_model
    from gpux.runtime.generation.options import GenerationOptions
    from gpux.runtime.generation.results import Generation
    from gpux.runtime.graphs import Graphs
    from gpux.runtime.session import Session
    from gpux.store import Store
    from gpux.system.cancel import CancelToken
    from gpux.system.settings import Settings
    from gpux.upkeep.inventory import Health, verify_models
    from gpux.upkeep.outdated import RevisionStatus, Update, outdated, update
    from gpux.upkeep.repair import Repair, repair_models


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
