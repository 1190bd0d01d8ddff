from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from premem.errors import CheckpointError, EngineError, Interrupted
from premem.grading.pool import GradingPool
from premem.method.sample_seeds import sample_seed
from premem.payloads.results import check, check_partial, decode
from premem.records import Example, Grade
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import Perturbation, Sampling, Template
from premem.wire.tasks import DrawPlan, LeasedTask
from premem_worker.engines.feed import Feed
from premem_worker.engines.requests import Sampled, SampleRequest, Scored, ScoreRequest
from premem_worker.passes.plan import plan
from tests.fakes import Comparing, FakeEngine, examples, make_task, nan
from tests.worker.passes.running import run_pass, saving_to


class Reordering(FakeEngine):
    """Answers everything, the last request first."""

    def run(self, requests: Sequence[ScoreRequest | SampleRequest], **how: object) -> Iterator[Scored | Sampled]:
        yield from reversed(list(super().run(requests, **how)))  # type: ignore[arg-type]


class Saying(FakeEngine):
    """Answers what the test says."""

    def __init__(self, outcomes: Callable[[Sequence[ScoreRequest | SampleRequest]], list[Scored | Sampled]]) -> None:
        super().__init__()
        self.outcomes = outcomes

    def run(self, requests: Sequence[ScoreRequest | SampleRequest], **how: object) -> Iterator[Scored | Sampled]:
        yield from self.outcomes(Feed.of(requests).take())


def result_of(
    task: LeasedTask, rows: Sequence[Example], engine: FakeEngine | None = None, partial: bytes | None = None
) -> pl.DataFrame:
    engine = engine or FakeEngine()
    content = run_pass(
        task,
        rows,
        engine,
        grading=Comparing(),
        partial=partial,
    )
    frame, _ = check(
        content, start=task.start, stop=task.stop, samples=task.sampling.samples, kind=task.kind, plan=task.plan
    )
    return frame


def test_every_row_of_a_training_task_gets_a_perplexity_and_its_answers():
    frame = result_of(make_task(start=4, stop=7), examples(7)[4:])

    assert frame["row"].to_list() == [4, 5, 6]
    assert frame["skipped"].null_count() == 3
    assert (frame["perplexity"] > 1.0).all()
    assert frame["target_tokens"].to_list() == [len(f" {e.trace}\nDone.") for e in examples(7)[4:]]
    assert frame["texts"].list.len().to_list() == [2, 2, 2]


def test_perplexity_is_the_exponential_of_the_mean_negative_log_likelihood():
    task = make_task(stop=1, sampling=Sampling(samples=1), template=Template(target="{trace}"))
    engine = Saying(lambda requests: [Scored(0, -8 * math.log(2), 8), Sampled(0, 0, "x", tokens=1, finished=True)])

    frame = result_of(task, [Example(id="a", question="q", trace="8 tokens")], engine)

    assert frame["perplexity"].to_list() == pytest.approx([2.0])


def test_a_test_task_is_sampled_and_not_scored():
    frame = result_of(make_task(kind="test"), examples(3))

    assert frame["perplexity"].null_count() == 3
    assert frame["verdicts"].list.len().to_list() == [2, 2, 2]


def test_answers_to_training_questions_are_compared_with_the_reference_trace():
    rows = [Example(id="a", question="1 + 1?", trace="one and one\nis two", final_answer="2")]
    texts = ["one and one is two", "no idea"]
    engine = Saying(
        lambda requests: [
            Scored(0, -8.0, len("one and one\nis two")),
            *(Sampled(0, place, text, tokens=4, finished=True) for place, text in enumerate(texts)),
        ]
    )
    task = make_task(stop=1, sampling=Sampling(samples=2), template=Template(target="{trace}"))

    assert result_of(task, rows, engine)["similarities"].to_list() == [[1.0, 0.0]]
    assert result_of(make_task(kind="test"), examples(3))["similarities"].to_list() == [[], [], []]


@pytest.mark.parametrize(
    ("perturbation", "prompt"),
    [
        (None, "0 + 1?\nAnswer:"),
        (Perturbation(name="a", answer_prefix=" We know that"), "0 + 1?\nAnswer: We know that"),
        (Perturbation(name="b", question_prefix="Hm. ", question_suffix=" Now."), "Hm. 0 + 1? Now.\nAnswer:"),
    ],
)
def test_a_perturbed_task_samples_from_the_changed_prompt_and_scores_nothing(
    perturbation: Perturbation | None, prompt: str
):
    task = make_task(kind="perturbed", variant=int(perturbation is not None), perturbation=perturbation, stop=1)
    engine = FakeEngine()

    (request,) = plan(task, examples(1), engine).requests

    assert isinstance(request, SampleRequest)
    assert engine.tokenizer.decode(request.tokens) == prompt
    assert result_of(task, examples(1))["perplexity"].to_list() == [None]


def test_the_baseline_of_the_perturbed_answers_is_a_draw_of_its_own():
    tasks = [make_task(), make_task(kind="perturbed"), make_task(kind="perturbed", variant=1)]

    seeds = [
        request.seeds
        for task in tasks
        for request in plan(task, examples(3), FakeEngine()).requests
        if isinstance(request, SampleRequest)
    ]

    assert len({seed for of_row in seeds for seed in of_row}) == 3 * 3 * 2


def test_a_row_without_the_column_that_rewrites_it_is_skipped():
    change = Perturbation(name="a", question_column="reworded")
    rows = [replace(examples(1)[0], question="")]

    frame = result_of(make_task(kind="perturbed", variant=1, perturbation=change, stop=1), rows)

    assert frame["skipped"].to_list() == ["the column 'reworded' holds no text"]


def test_the_order_in_which_an_engine_answers_changes_nothing():
    task = make_task(stop=5, sampling=Sampling(samples=4, max_tokens=64))

    assert result_of(task, examples(5), Reordering()).equals(result_of(task, examples(5)))


def test_a_sample_does_not_depend_on_the_rows_around_it():
    whole = result_of(make_task(stop=6), examples(6))
    part = result_of(make_task(start=2, stop=4), examples(6)[2:4])

    assert part.equals(whole[2:4])


def test_each_sample_has_the_seed_of_its_job_checkpoint_example_and_split():
    task = make_task(kind="test", stop=1, sampling=Sampling(samples=2, seed=9))

    (request,) = plan(task, examples(1), FakeEngine()).requests

    assert isinstance(request, SampleRequest)
    assert request.seeds == tuple(
        sample_seed(9, checkpoint="checkpoint-5", example="e0", sample=sample, split="test") for sample in (0, 1)
    )


def test_an_example_is_scored_before_it_is_sampled():
    requests = plan(make_task(stop=2), examples(2), FakeEngine()).requests

    assert [(type(request), request.row) for request in requests] == [
        (ScoreRequest, 0),
        (SampleRequest, 0),
        (ScoreRequest, 1),
        (SampleRequest, 1),
    ]


def test_answers_are_graded_against_the_final_answer_where_there_is_one():
    grading = Comparing()
    rows = [Example(id="a", question="1 + 1?", trace="it is two", final_answer="2")]

    run_pass(
        make_task(stop=1, sampling=Sampling(samples=1, max_tokens=64)),
        rows,
        FakeEngine(),
        grading=grading,
    )

    assert [reference for reference, _ in grading.graded] == ["2"]


def test_a_row_too_long_for_the_context_is_skipped_with_its_reason_and_the_others_are_not():
    rows = [
        Example(id="short", question="1 + 1?", trace="2"),
        Example(id="long trace", question="1 + 1?", trace="2" * 100),
        Example(id="long question", question="1" * 100, trace="2"),
    ]

    frame = result_of(make_task(sampling=Sampling(samples=1, max_tokens=32)), rows, FakeEngine(context=100))

    assert frame["skipped"].to_list() == [
        None,
        "too long for the model's context: 100 tokens do not hold the prompt and its target",
        "too long for the model's context: 100 tokens do not hold the prompt and 32 tokens of an answer",
    ]
    assert frame["texts"].list.len().to_list() == [1, 0, 0]


def test_a_row_that_fills_the_context_exactly_is_not_skipped():
    rows = [Example(id="a", question="1 + 1?", trace="2")]
    prompt = len("1 + 1?\nAnswer:") + 1
    sampling = Sampling(samples=1, max_tokens=64)

    fits = result_of(make_task(stop=1, sampling=sampling), rows, FakeEngine(context=prompt + 64))
    does_not = result_of(make_task(stop=1, sampling=sampling), rows, FakeEngine(context=prompt + 63))

    assert fits["skipped"].to_list() == [None]
    assert does_not["skipped"].null_count() == 0


def test_a_text_that_is_no_unicode_is_skipped():
    rows = [Example(id="a", question="1 + 1?", trace="\ud800"), Example(id="b", question="1 + 1?", trace="2")]

    frame = result_of(make_task(stop=2), rows)

    assert frame["skipped"].to_list() == ["the text is not valid Unicode (a lone surrogate)", None]


def test_a_target_without_tokens_is_skipped():
    rows = [Example(id="a", question="1 + 1?", trace="")]

    frame = result_of(make_task(stop=1, template=Template(target="{trace}")), rows)

    assert frame["skipped"].to_list() == ["the target has no tokens"]


def test_a_log_likelihood_that_is_no_number_is_the_checkpoints_fault_and_names_the_example():
    engine = Saying(lambda requests: [nan(r) for r in requests if isinstance(r, ScoreRequest)])

    with pytest.raises(CheckpointError, match=r"'checkpoint-5' \(/runs/checkpoint-5\).*'e0' \(row 0\).*nan"):
        result_of(make_task(), examples(3), engine)


def test_a_log_likelihood_of_minus_infinity_is_the_checkpoints_fault():
    engine = Saying(lambda requests: [Scored(0, -math.inf, len(requests[0].tokens) - 15)])

    with pytest.raises(CheckpointError, match="log-likelihood of -inf"):
        result_of(make_task(), examples(3), engine)


def test_a_model_that_is_certain_has_a_perplexity_of_one():
    engine = FakeEngine()
    engine.score = lambda request: Scored(request.row, 1e-7, len(request.tokens) - request.target_start)  # type: ignore[method-assign]

    assert result_of(make_task(), examples(3), engine)["perplexity"].to_list() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda outcomes: outcomes[:-1], "0 scores and 1 samples unanswered"),
        (lambda outcomes: outcomes[1:], "1 scores and 0 samples unanswered"),
        (lambda outcomes: [*outcomes, outcomes[-1]], "sample 1 of row 2 twice or unasked"),
        (lambda outcomes: [outcomes[0], *outcomes], "row 0 twice or unasked"),
        (lambda outcomes: [Scored(0, -1.0, 1), *outcomes[1:]], "scored 1 tokens of row 0"),
    ],
)
def test_an_engine_that_leaves_out_or_repeats_an_outcome_is_found_out(
    spoil: Callable[[list[Scored | Sampled]], list[Scored | Sampled]], message: str
):
    class Spoiled(FakeEngine):
        def run(self, requests: Sequence[ScoreRequest | SampleRequest], **how: object) -> Iterator[Scored | Sampled]:
            yield from spoil(list(super().run(requests, **how)))  # type: ignore[arg-type]

    with pytest.raises(EngineError, match=message):
        result_of(make_task(), examples(3), Spoiled())


def test_a_pass_that_is_stopped_ends_at_once_and_closes_the_engines_run():
    asked = iter([False, False, False, True])
    closed = []

    class Watched(FakeEngine):
        def run(self, requests: Sequence[ScoreRequest | SampleRequest], **how: object) -> Iterator[Scored | Sampled]:
            try:
                yield from super().run(requests, sampling=Sampling(), stopped=lambda: False)
            finally:
                closed.append(True)

    with pytest.raises(Interrupted):
        run_pass(
            make_task(),
            examples(3),
            Watched(),
            grading=Comparing(),
            stopped=lambda: next(asked),
        )
    assert closed == [True]


def test_a_pass_that_waits_for_a_grader_can_be_stopped():
    engine_ended = []

    class Never(Comparing):
        def submit(self, reference: str, answer: str) -> Future[Grade]:
            return Future()

    class Watched(FakeEngine):
        def run(self, requests: Sequence[ScoreRequest | SampleRequest], **how: object) -> Iterator[Scored | Sampled]:
            yield from super().run(requests, **how)  # type: ignore[arg-type]
            engine_ended.append(True)

    with pytest.raises(Interrupted, match="while answers were graded"):
        run_pass(
            make_task(),
            examples(3),
            Watched(),
            grading=Never(),
            stopped=lambda: bool(engine_ended),
        )


def test_a_grader_that_cannot_go_on_ends_the_pass():
    class Broken(Comparing):
        def submit(self, reference: str, answer: str) -> Future[Grade]:
            future: Future[Grade] = Future()
            future.set_exception(RuntimeError("no process left"))
            return future

    with pytest.raises(RuntimeError, match="no process left"):
        run_pass(
            make_task(),
            examples(3),
            FakeEngine(),
            grading=Broken(),
        )


def test_an_answer_whose_grading_runs_out_of_time_is_data():
    grader = GraderChoice(name="regex", options={"pattern": "((?:a+)+)$"}, answer_seconds=0.3)
    task = make_task(kind="test", stop=1, sampling=Sampling(samples=3), grader=grader)
    texts = ["aa", "a" * 60 + "!", "b"]
    engine = Saying(lambda requests: [Sampled(0, n, text, tokens=1, finished=True) for n, text in enumerate(texts)])

    with GradingPool(grader, processes=1) as pool:
        content = run_pass(
            task,
            [Example(id="a", question="q", trace="t", final_answer="aa")],
            engine,
            grading=pool,
        )

    frame, _ = check(content, start=0, stop=1, samples=3, kind="test")
    assert frame["verdicts"].to_list() == [["right", "timeout", "no_answer"]]


DRAWN = Sampling(samples=8, max_tokens=64)
PLAN = DrawPlan(rows=[0, 2, 3], floor=[-1, 2, -1], ceiling=[8, 8, 1])


class Counting(FakeEngine):
    """Loaded with the checkpoint of `make_task`; counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint = Path("/runs/checkpoint-5")
        self.samples: list[tuple[int, int]] = []
        self.scores = 0

    def answer(self, request: SampleRequest, sample: int, sampling: Sampling) -> Sampled:
        self.samples.append((request.row, request.first + sample))
        return super().answer(request, sample, sampling)

    def score(self, request: ScoreRequest) -> Scored:
        self.scores += 1
        return super().score(request)


def test_a_perplexity_task_scores_and_draws_nothing():
    whole = result_of(make_task(sampling=DRAWN), examples(3), Counting())

    frame = result_of(make_task(kind="perplexity", sampling=DRAWN), examples(3), Counting())

    assert frame["perplexity"].to_list() == whole["perplexity"].to_list()
    assert frame["texts"].list.len().to_list() == [0, 0, 0]


def test_a_draw_stops_as_soon_as_each_goal_is_reached_and_gives_the_answers_that_a_whole_task_gives():
    rows, engine = examples(4), Counting()
    whole = result_of(make_task(stop=4, sampling=DRAWN), rows, Counting())
    right = [verdicts.to_list() for verdicts in whole["verdicts"]]

    frame = result_of(make_task(kind="draw", stop=4, sampling=DRAWN, plan=PLAN), rows, engine)

    assert frame["row"].to_list() == [0, 2, 3]
    for row, texts in frame.select("row", "texts").iter_rows():
        assert texts == whole["texts"][row].to_list()[: len(texts)]
    drawn = dict(frame.select("row", pl.col("verdicts").list.len()).iter_rows())
    assert drawn[0] == 8
    assert drawn[3] == right[3].index("right") + 1
    assert drawn[2] == 8 or right[2][: drawn[2]].count("right") + 8 - drawn[2] <= 2
    assert len(engine.samples) == sum(drawn.values())
    assert engine.scores == 0
    assert frame["similarities"].list.len().to_list() == frame["texts"].list.len().to_list()


def test_what_is_known_already_is_not_asked_for_again():
    kept: list[bytes] = []

    class Dying(Counting):
        def answer(self, request: SampleRequest, sample: int, sampling: Sampling) -> Sampled:
            if len(self.samples) == 11:
                raise Interrupted("killed")
            return super().answer(request, sample, sampling)

    task = make_task(sampling=DRAWN)
    whole = result_of(task, examples(3), Counting())
    with pytest.raises(Interrupted):
        run_pass(
            task,
            examples(3),
            Dying(),
            grading=Comparing(),
            saving=saving_to(kept, Counting()),
        )
    check_partial(kept[-1], kind="train", start=0, stop=3, samples=8)
    resumed = Counting()

    frame = result_of(task, examples(3), resumed, partial=kept[-1])

    assert frame.equals(whole)
    assert len(resumed.samples) == 24 - 11
    assert resumed.scores == 1


def test_more_samples_go_on_where_the_fewer_ended():
    few = run_pass(
        make_task(sampling=Sampling(samples=2, max_tokens=64)),
        examples(3),
        Counting(),
        grading=Comparing(),
    )
    engine = Counting()

    frame = result_of(make_task(sampling=DRAWN), examples(3), engine, partial=few)

    assert frame.equals(result_of(make_task(sampling=DRAWN), examples(3), Counting()))
    assert len(engine.samples) == 3 * 6
    assert engine.scores == 0


def test_what_is_done_is_kept_every_so_often():
    kept: list[bytes] = []

    run_pass(
        make_task(sampling=DRAWN),
        examples(3),
        Counting(),
        grading=Comparing(),
        saving=saving_to(kept, Counting(), seconds=0.0),
    )

    known = [sum(len(row.answers) for row in decode(content)[0]) for content in kept]
    assert known == sorted(known)
    assert known[0] < known[-1] <= 24
