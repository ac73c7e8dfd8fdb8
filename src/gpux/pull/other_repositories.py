"""Repositories of others that hold a model's ONNX: found by name, believed by their card, offered and never taken."""

from __future__ import annotations

from gpux.errors import ManagerError
from gpux.managers.base import ModelManager
from gpux.model.info import ModelInfo
from gpux.model.reference import ModelRef
from gpux.system.cancel import CancelToken

#: Organisations that publish ONNX of others' models, for transformers.js.
PUBLISHERS = ("onnx-community", "Xenova")


def onnx_siblings(info: ModelInfo, manager: ModelManager, *, cancel: CancelToken | None = None) -> tuple[str, ...]:
    """Ids of repositories with ONNX whose card names this model as the one they were made from.

    One request for each publisher. The card says so by ``base_model``, which the Hub repeats in the tags as
    ``base_model:ORG/NAME`` and ``base_model:quantized:ORG/NAME``.
    """
    if info.scheme != "hf":
        return ()
    name = info.id.rpartition("/")[2]
    candidates = [f"{publisher}/{name}" for publisher in PUBLISHERS if f"{publisher}/{name}" != info.id]
    return tuple(found for found in candidates if _is_made_from(found, info, manager, cancel))


def _is_made_from(candidate: str, info: ModelInfo, manager: ModelManager, cancel: CancelToken | None) -> bool:
    try:
        other = manager.resolve(ModelRef(info.scheme, candidate), cancel=cancel)
    except ManagerError:  # not there, not to be seen, not to be reached: nothing to offer
        return False
    bases = {tag.rpartition(":")[2] for tag in other.tags if tag.startswith("base_model:")}
    return "onnx" in other.formats and bool(bases & {info.id, info.requested_id})
