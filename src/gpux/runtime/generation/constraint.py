"""What an answer's format asks of each token: the seam to libraries that constrain decoding by a grammar."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]


class Constraint(Protocol):
    """The format of one row; made for one generation."""

    @property
    def finished(self) -> bool:
        """Nothing more may come: the row ends, without an end token too."""

    def mask(self, scores: Scores) -> Scores:
        """The scores, ``[vocabulary]``, with -inf for what cannot come; an end token may come where the answer may end.

        They may be written to and given back.
        """

    def accept(self, token: int) -> None:
        """This token came; not called for an end token, nor for one that completed a stop text."""
