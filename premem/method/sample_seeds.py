"""Where chance comes from: every sample has a seed of its own, so that any one of them can be drawn again."""

from __future__ import annotations

from hashlib import blake2b


def sample_seed(seed: int, *, checkpoint: str, example: str, sample: int, split: str = "train") -> int:
    """The seed of one sampled answer, in [0, 2**63): a function of what is asked, not of when, where or in which batch.

    `seed` is the job's, `checkpoint` the checkpoint's name, `sample` counts an example's answers from 0.
    """
    key = "\x1f".join((str(seed), split, checkpoint, example, str(sample))).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") >> 1
