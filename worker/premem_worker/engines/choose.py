"""Choosing the engine: vLLM if it is installed, else transformers."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

from premem.errors import EngineError
from premem_worker.engines.protocol import EmbeddingEngine, Engine

EngineName = Literal["vllm", "transformers"]


def engine_name(name: Literal["auto"] | EngineName) -> EngineName:
    """The engine that `auto` means here, found without importing it."""
    if name != "auto":
        return name
    return "vllm" if importlib.util.find_spec("vllm") else "transformers"


def check_installed(name: EngineName) -> None:
    """Raises EngineError, which says what to install, if the engine is missing. Does not import it."""
    needed = "vllm" if name == "vllm" else "torch"
    if not importlib.util.find_spec(needed):
        raise EngineError(
            f"the {name} engine needs {needed}, which is not installed (pip install 'premem[{extra(name)}]')"
        )


def make_engine(name: Literal["auto"] | EngineName = "auto", **settings: Any) -> Engine:
    """A new engine without a checkpoint. `settings` go to its class. Raises EngineError if it is not installed."""
    chosen = engine_name(name)
    check_installed(chosen)
    if chosen == "vllm":
        from premem_worker.engines.vllm.engine import VllmEngine

        return VllmEngine(**settings)
    return make_embedder(**settings)


def make_embedder(**settings: Any) -> EmbeddingEngine:
    """The transformers engine, which is also installed with vLLM."""
    from premem_worker.engines.transformers.engine import TransformersEngine

    return TransformersEngine(**settings)


def extra(name: EngineName) -> str:
    """The extra of the package that installs an engine."""
    return "vllm" if name == "vllm" else "worker"
