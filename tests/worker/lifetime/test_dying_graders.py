"""Grading processes that die in the middle of a pass."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

from premem.grading.pool import GradingPool
from premem.payloads.results import check
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import Sampling
from premem_worker.engines.feed import Feed
from premem_worker.engines.requests import Sampled, SampleRequest, Scored, ScoreRequest
from premem_worker.lifetime.processes import descendants
from tests.fakes import FakeEngine, examples, make_task
from tests.worker.passes.running import run_pass

UNBOUNDED = GraderChoice(name="regex", options={"pattern": r"#### (\d+)$"})
"""Graded in processes, since a pattern may take forever."""


class Killing(FakeEngine):
    """Has the grading processes killed after its n-th answer."""

    def __init__(self, *, after: int, forge_too: bool) -> None:
        super().__init__()
        self.after = after
        self.forge_too = forge_too
        self.killed: list[int] = []

    def run(
        self,
        requests: Feed | Sequence[ScoreRequest | SampleRequest],
        *,
        sampling: Sampling,
        stopped: Callable[[], bool],
    ) -> Iterator[Scored | Sampled]:
        for number, outcome in enumerate(super().run(requests, sampling=sampling, stopped=stopped)):
            yield outcome
            if number == self.after:
                for process in grading_processes()[0 if self.forge_too else 1 :]:
                    os.kill(process, signal.SIGKILL)
                    self.killed.append(process)


def grading_processes() -> list[int]:
    """The forge first: it is the oldest one."""
    ours = [
        one for one in descendants(os.getpid()) if b"premem.grading.child" in Path(f"/proc/{one}/cmdline").read_bytes()
    ]
    return sorted(ours)


def graded(engine: FakeEngine) -> pl.DataFrame:
    task = make_task(stop=12, sampling=Sampling(samples=4, max_tokens=64), grader=UNBOUNDED)
    with GradingPool(UNBOUNDED, processes=2) as pool:
        for future in [pool.submit("1", "#### 1"), pool.submit("1", "#### 2")]:
            future.result(timeout=60)  # both processes are there
        content = run_pass(task, examples(12), engine, grading=pool)
    return check(content, start=0, stop=12, samples=4, kind="train")[0]


@pytest.mark.parametrize("forge_too", [False, True])
def test_a_pass_whose_grading_processes_are_killed_gives_the_same_grades(forge_too: bool):
    engine = Killing(after=20, forge_too=forge_too)

    disturbed = graded(engine)

    assert len(engine.killed) >= 2
    assert disturbed.equals(graded(FakeEngine()))
    assert set(disturbed["verdicts"].explode()) == {"right", "wrong"}
