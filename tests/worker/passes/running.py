"""One pass with an engine, without a worker around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from premem.payloads.results import RowResult, encode
from premem.records import Example
from premem.wire.tasks import LeasedTask
from premem_worker.checkpoints.chat import Chat
from premem_worker.engines.protocol import Engine
from premem_worker.passes.plan import plan
from premem_worker.passes.scoring import Grading, Saving, graded
from tests.fakes import Comparing


def run_pass(
    task: LeasedTask,
    rows: Sequence[Example],
    engine: Engine,
    *,
    grading: Grading | None = None,
    chat: Chat | None = None,
    stopped: Callable[[], bool] = lambda: False,
    partial: bytes | None = None,
    saving: Saving | None = None,
) -> bytes:
    """Plan, run and grade: the result as a worker hands it in."""
    made = plan(task, rows, engine, partial, chat=chat)
    outcomes = engine.run(made.feed, sampling=task.sampling, stopped=stopped)
    return encoded(graded(made, outcomes, grading=grading or Comparing(), stopped=stopped, saving=saving), engine)


def encoded(rows: Sequence[RowResult], engine: Engine) -> bytes:
    return encode(rows, produced_by={**engine.produced_by, "tokenizer": "t1", "model": "FakeForCausalLM 1k"})


def saving_to(kept: list[bytes], engine: Engine, *, seconds: float = 30.0) -> Saving:
    """Partial results, as a worker sends them."""
    return Saving(lambda rows: kept.append(encoded(rows, engine)), seconds)
