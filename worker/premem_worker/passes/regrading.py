"""Grading anew what was sampled before: no checkpoint is loaded and no engine started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from premem.errors import ServiceError
from premem.payloads.results import decode, encode
from premem.records import Example
from premem.wire.tasks import LeasedTask
from premem_worker.passes.scoring import Grading, wait_for_all


def regrade(
    task: LeasedTask, examples: Sequence[Example], source: bytes, *, grading: Grading, stopped: Callable[[], bool]
) -> bytes:
    """The task's source with other grades; whatever else it holds stays as it is, who made it included.

    `examples` are the rows from task.start on. Raises Interrupted soon after `stopped` turns true, ServiceError where
    the source holds other rows, InputError where it is no result.
    """
    rows, produced_by = decode(source)
    asked = list(range(task.start, task.stop)) if task.plan is None else task.plan.rows
    if [result.row for result in rows] != asked:
        span = f"{task.start} to {task.stop - 1}" if task.plan is None else "of its plan"
        raise ServiceError(f"the source of task {task.id} does not hold the rows {span}")
    grades = [
        [grading.submit(examples[result.row - task.start].reference, answer.text) for answer in result.answers]
        for result in rows
    ]
    every = [grade for of_row in grades for grade in of_row]
    try:
        wait_for_all(every, stopped)
    finally:
        for grade in every:
            grade.cancel()  # no effect on those that are done
    for result, of_row in zip(rows, grades, strict=True):
        result.answers = [
            replace(answer, grade=grade.result()) for answer, grade in zip(result.answers, of_row, strict=True)
        ]
    return encode(rows, produced_by=produced_by)
