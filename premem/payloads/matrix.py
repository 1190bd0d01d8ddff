"""All of a job's accuracies and perplexities in one compact body, for pages and notebooks that rank anew.

Little-endian: uint32 C, uint32 E, uint32 row (E), float32 score (E), float32 accuracy (C × E), float32 perplexity (C × E).
C checkpoints in order, E examples from the lowest score to the highest; NaN where not every answer was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from premem.errors import InputError


@dataclass(frozen=True, slots=True)
class ScoreMatrix:
    row_E: NDArray[np.uint32]
    """Positions in the data set, in the order of the ranking."""
    score_E: NDArray[np.float32]
    """Pre-memorization accuracy under the job's own threshold."""
    accuracy_CE: NDArray[np.float32]
    perplexity_CE: NDArray[np.float32]

    def encode(self) -> bytes:
        head = np.array(self.accuracy_CE.shape, "<u4").tobytes()
        return b"".join(
            (
                head,
                self.row_E.astype("<u4").tobytes(),
                self.score_E.astype("<f4").tobytes(),
                self.accuracy_CE.astype("<f4").tobytes(),
                self.perplexity_CE.astype("<f4").tobytes(),
            )
        )

    @classmethod
    def decode(cls, body: bytes) -> ScoreMatrix:
        """Raises InputError where the body is not as long as its head says."""
        c, e = (int(n) for n in np.frombuffer(body, "<u4", 2)) if len(body) >= 8 else (0, 0)
        if len(body) != 8 + 8 * e + 8 * c * e:
            raise InputError(f"{len(body)} bytes are no matrix of {c} checkpoints × {e} examples")
        values = np.frombuffer(body, "<f4", offset=8 + 8 * e).reshape(2, c, e)
        row_E, score_E = np.frombuffer(body, "<u4", e, offset=8), np.frombuffer(body, "<f4", e, offset=8 + 4 * e)
        return cls(row_E, score_E, values[0], values[1])
