from __future__ import annotations

from concurrent.futures import Future

import pytest

from premem.errors import InputError, Interrupted, ServiceError
from premem.payloads.results import decode
from premem.records import Grade
from premem_worker.passes.regrading import regrade
from tests.fakes import Comparing, FakeEngine, examples, make_task
from tests.worker.passes.running import run_pass


def source() -> bytes:
    return run_pass(
        make_task(stop=4),
        examples(4),
        FakeEngine(),
        grading=Comparing(),
    )


class Contrary:
    """Calls everything wrong."""

    def submit(self, reference: str, answer: str) -> Future[Grade]:
        future: Future[Grade] = Future()
        future.set_result(Grade("wrong", reference))
        return future


def test_only_the_grades_change():
    before, made_by = decode(source())

    after, still_made_by = decode(
        regrade(make_task(stop=4, regrade=True), examples(4), source(), grading=Contrary(), stopped=lambda: False)
    )

    assert still_made_by == made_by
    for was, row in zip(before, after, strict=True):
        assert [answer.grade for answer in row.answers] == [Grade("wrong", examples(4)[row.row].trace)] * 2
        for answer, old in zip(row.answers, was.answers, strict=True):
            answer_now, answer_then = (answer.text, answer.tokens), (old.text, old.tokens)
            assert answer_now == answer_then
        assert (row.perplexity, row.similarities) == (was.perplexity, was.similarities)


def test_the_same_grader_gives_the_same_file():
    task = make_task(stop=4, regrade=True)

    assert regrade(task, examples(4), source(), grading=Comparing(), stopped=lambda: False) == source()


def test_a_source_of_other_rows_is_refused():
    task = make_task(start=1, stop=5, regrade=True)

    with pytest.raises(ServiceError, match="rows 1 to 4"):
        regrade(task, examples(6)[1:5], source(), grading=Comparing(), stopped=lambda: False)


def test_a_source_that_is_no_result_is_refused():
    with pytest.raises(InputError, match="no Parquet file"):
        regrade(make_task(regrade=True), examples(3), b"PAR1", grading=Comparing(), stopped=lambda: False)


def test_grading_anew_can_be_stopped():
    class Never:
        def submit(self, reference: str, answer: str) -> Future[Grade]:
            return Future()

    with pytest.raises(Interrupted):
        regrade(make_task(stop=4, regrade=True), examples(4), source(), grading=Never(), stopped=lambda: True)
