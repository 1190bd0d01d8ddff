"""Packages that only a part of learning dynamics needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from premem.errors import InputError


@contextmanager
def of_the_extra_method() -> Iterator[None]:
    """Around imports of scipy, scikit-learn and rapidfuzz. Raises InputError that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"this needs {error.name}, which is not installed: pip install 'premem[method]'") from error
