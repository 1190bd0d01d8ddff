"""The adapters that vLLM computes beside one base: several at a time, so that one batch may mix them."""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from premem.errors import CheckpointError, EngineError
from premem_worker.engines.loading import first_line

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""That vLLM takes as the highest."""
BASE = -1
"""The number of the base without any adapter."""

Adapted = tuple[Path, tuple[object, ...]]
"""An adapter's folder, and the stamp of its files."""


class Beside:
    """What the running engine holds. Each adapter has a number, above 0, that no other one gets after it."""

    def __init__(self, most: int) -> None:
        """`most` at a time. vLLM drops one by itself beyond that, and reads it from the disk again when it is asked."""
        self.most = most
        self.rank = 0
        """The highest that the running engine takes; 0: it takes no adapter."""
        self._held: dict[int, tuple[Adapted, Any]] = {}
        """The longest unused first."""
        self._given = 0

    def start(self, *, rank: int) -> None:
        """An engine is about to start that holds none yet, for adapters up to this rank and what vLLM makes of it."""
        self.rank = next((most for most in RANKS if most >= rank), rank) if rank else 0
        self._held = {}

    def request(self, number: int) -> Any:
        """The LoRARequest that goes with what is asked of that one; None: of the base."""
        return None if number == BASE else self._held[number][1]

    def find(self, adapted: Adapted) -> int | None:
        """The number of one that is held; it counts as used."""
        number = next((number for number, (one, _) in self._held.items() if one == adapted), None)
        if number is not None:
            self._held[number] = self._held.pop(number)
        return number

    def add(self, llm: Any, adapted: Adapted, check: Callable[[Path, Any], None], *, keep: Set[int]) -> int | None:
        """Read it into the engine, which may be answering, in the place of the longest unused one where all are taken.
        None: all are taken by those to `keep`. `check` raises what is wrong with the adapter of a LoRARequest; nothing
        is held then.

        Raises CheckpointError, EngineError.
        """
        from vllm.lora.request import LoRARequest

        while len(self._held) >= self.most:
            unused = next((number for number in self._held if number not in keep), None)
            if unused is None:
                return None
            self._drop(llm, unused)
        self._given += 1
        number, folder = self._given, adapted[0]
        request = LoRARequest(f"adapter-{number}", number, str(folder))  # keys and values are cached by the name
        self._held[number] = adapted, request
        try:
            _read(llm, folder, request)
            check(folder, request)
        except BaseException:
            self._drop(llm, number)
            raise
        return number

    def add_again(self, llm: Any, check: Callable[[Path, Any], None]) -> None:
        """All that were held, under their numbers, into a fresh engine. Raises CheckpointError, EngineError."""
        for (folder, _), request in self._held.values():
            _read(llm, folder, request)
            check(folder, request)

    def _drop(self, llm: Any, number: int) -> None:
        del self._held[number]
        with suppress(Exception):  # an engine that is dead says so at its next step
            llm.remove_lora(number)


def _read(llm: Any, folder: Path, request: Any) -> None:
    try:
        llm.add_lora(request)
    except ValueError as error:
        raise CheckpointError(f"vLLM cannot load the adapter {folder}: {first_line(error)}") from error
    except Exception as error:
        raise EngineError(f"vLLM could not read the adapter {folder}: {first_line(error)}") from error
