"""The tasks that this worker converts, by the Hub's name, and what their graphs may ask for."""

from __future__ import annotations

#: Hub's name -> Optimum's. Only tasks whose graph is one text encoder; a task that is not here is refused.
OPTIMUM_TASK = {
    "feature-extraction": "feature-extraction",
    "fill-mask": "fill-mask",
    "question-answering": "question-answering",
    "text-classification": "text-classification",
    "token-classification": "token-classification",
}
#: Inputs that :mod:`reference` can make.
KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
