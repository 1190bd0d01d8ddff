"""Packages that only a part of premem needs: the extra that brings each is named where one is missing.

with brought_by("frames"):
    import polars
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal

from premem.errors import MissingExtra

Extra = Literal[
    "service", "worker", "local", "vllm", "previews", "postgres", "math", "method", "frames", "datasets", "s3"
]
Program = Literal["service", "worker"]
"""Distributions of their own, which are started as processes."""
PACKAGES: dict[Program, tuple[str, ...]] = {
    "service": ("premem_service", "fastapi", "sqlalchemy", "uvicorn"),
    "worker": ("premem_worker", "torch", "transformers", "safetensors"),
}
"""What each cannot start without."""


def install(extra: Extra) -> str:
    """The command that brings an extra."""
    return f"pip install 'premem[{extra}]'"


def _needs(package: str, extra: Extra) -> str:
    return f"this needs {package}, which is not installed: {install(extra)}"


@contextmanager
def brought_by(extra: Extra) -> Iterator[None]:
    """Around imports. Raises MissingExtra, naming the package that is not installed and the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or str(error)).partition(".")[0]
        raise MissingExtra(_needs(missing, extra), name=error.name) from error


def check_packages(*packages: str, extra: Extra) -> None:
    """Before work that would end in their import. Raises MissingExtra as `brought_by` does. Imports nothing."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(_needs(package, extra), name=package)


def check_installed(*programs: Program) -> None:
    """Raises MissingExtra, saying what to install, where one of the programs could not start here. Imports nothing."""
    missing = [package for program in programs for package in PACKAGES[program] if find_spec(package) is None]
    if not missing:
        return
    extra: Extra = "local" if len(programs) > 1 else programs[0]
    with_vllm = f" (with vLLM, for GPUs: {install('vllm')})" if "worker" in programs else ""
    needing = "a private service with its worker" if len(programs) > 1 else f"the {programs[0]}"
    raise MissingExtra(f"{needing} needs {', '.join(missing)}, not installed here: {install(extra)}{with_vllm}")
