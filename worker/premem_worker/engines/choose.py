"""Which engine: vLLM where it is installed, transformers elsewhere."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

from premem.errors import EngineError
from premem_worker.engines.protocol import EmbeddingEngine, Engine

EngineName = Literal["vllm", "transformers"]


def engine_name(name: Literal["auto"] | EngineName) -> EngineName:
    """`auto` made definite, without importing anything heavy."""
    if name != "auto":
        return name
    return "vllm" if importlib.util.find_spec("vllm") else "transformers"


def check_installed(name: EngineName) -> None:
    """Raises EngineError, saying what to install. Imports nothing heavy."""
    needed = "vllm" if name == "vllm" else "torch"
    if not importlib.util.find_spec(needed):
        raise EngineError(
            f"the {name} engine needs {needed}, which is not installed (pip install 'premem[{extra(name)}]')"
        )


def make_engine(name: Literal["auto"] | EngineName = "auto", **settings: Any) -> Engine:
    """An engine that holds no checkpoint yet; `settings` go to its class. Raises EngineError where it is missing."""
    chosen = engine_name(name)
    check_installed(chosen)
    if chosen == "vllm":
        from premem_worker.engines.vllm.engine import VllmEngine

        return VllmEngine(**settings)
    return make_embedder(**settings)


def make_embedder(**settings: Any) -> EmbeddingEngine:
    """The transformers engine, which is installed wherever vLLM is."""
    from premem_worker.engines.transformers.engine import TransformersEngine

    return TransformersEngine(**settings)


def extra(name: EngineName) -> str:
    """The extra of the package that brings an engine."""
    return "vllm" if name == "vllm" else "worker"
