"""What a training script imports: `from premem.callback import PreMemorization`."""

from premem.training.callback import PreMemorization

__all__ = ["PreMemorization"]
