"""Seeds: every sample has its own, so that each can be drawn again by itself."""

from __future__ import annotations

from hashlib import blake2b


def sample_seed(seed: int, *, checkpoint: str, example: str, sample: int, split: str = "train") -> int:
    """The seed of one sampled answer, in [0, 2**63). It does not depend on when, where or in which batch it is drawn.

    `seed` is the job's, `checkpoint` the checkpoint's name, `sample` counts an example's answers from 0.
    """
    key = "\x1f".join((str(seed), split, checkpoint, example, str(sample))).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") >> 1
