"""Files of late-interaction models in a variant."""

from __future__ import annotations

#: The settings that stanford-futuredata/ColBERT writes beside its weights, as JSON.
METADATA = "artifact.metadata"
#: The linear head of such weights, which converters leave out: safetensors with the tensor ``linear.weight``.
HEAD = "colbert_head.safetensors"
#: The class name in ``architectures`` of such a model.
ARCHITECTURE = "HF_ColBERT"
