"""What a job will cost, from the lengths of its data and from what another job's tasks took.

A measured job gives three things: tokens per character, tokens per answer, and how much of each an engine does in a
second. Its tasks of kind `perplexity` tell of scoring and those of kind `draw` of sampling, so it has a planned trajectory.

A chat template adds to each row: the system message, which counts by its characters as all text does, and TURN_TOKENS for
every message. What the template of a measured chat wrote beyond that, such as a system message of its own, is spread over
the characters, so that the same rows under the same template are counted as they were measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow.compute as pc
from sqlalchemy import Connection, func, select

from premem.errors import Conflict, NotFound
from premem.wire.estimates import Between, Estimate
from premem.wire.jobs import JobRequest, Template
from premem_service.datasets.reading import read_columns
from premem_service.http.problems import FieldError
from premem_service.queue.workers import connected
from premem_service.storage.db import Database
from premem_service.storage.rows import JobRow, PaceSums, all_of, first_of
from premem_service.storage.store import Store
from premem_service.storage.tables import jobs, tasks

TOKENS_PER_CHARACTER = 0.3
"""Of English and numbers with the tokenizers of today, where nothing was measured."""
DRAWN_AS_RECORDED = 0.31
"""Share of the answers that `final` draws on the authors' runs of three and more epochs (benchmarks/replay.py)."""
DRAWN_BELOW_AS_RECORDED = 0.21
"""The same where only whether a score is under 0.5 is asked."""
TURN_TOKENS = 5.0
"""Around a message of a chat, as ChatML and Llama 3 write them: who speaks, begun and ended, and a line's end. One each."""
BYTES_PER_ANSWER = 60.0
"""Of a result's other columns, compressed."""
BYTES_PER_TOKEN = 1.5
"""Of an answer's text, compressed."""
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True, slots=True)
class _Pace:
    """What was measured."""

    tokens_per_character: float
    tokens_per_answer: float
    scored_per_second: float
    answers_per_second: float
    weight_bytes: float | None
    cache_bytes: float | None


def estimate(database: Database, store: Store, request: JobRequest, *, measured_by: str | None) -> Estimate:
    """Raises FieldError for a data set or a job that there is not, Conflict for one that measured nothing."""
    template = request.template
    rows, characters = _lengths(database, store, request.dataset, template, field="dataset")
    tested = 0
    if request.test_dataset is not None:
        tested, _ = _lengths(database, store, request.test_dataset, request.template, field="test_dataset")
    with database.connect() as connection:
        measured = None if measured_by is None else _measured_job(connection, measured_by)
        engines = sum(worker.engine is not None for worker in connected(connection))
    pace = None if measured is None else _pace(database, store, measured)
    checkpoints = len(request.checkpoints)
    rate = pace.tokens_per_character if pace else TOKENS_PER_CHARACTER
    scored = checkpoints * (characters * rate + rows * _turns(template) * TURN_TOKENS)
    answers = _answers(request, rows=rows, tested=tested)
    said = characters / max(rows, 1) - len(template.system)
    assumed = min(said * TOKENS_PER_CHARACTER / 2, request.sampling.max_tokens)
    length = pace.tokens_per_answer if pace else assumed
    seconds = None
    if pace is not None:
        seconds = _each(answers, lambda n: scored / pace.scored_per_second + n / pace.answers_per_second)
    shards = -(-rows // request.shard_rows)
    return Estimate(
        tasks=checkpoints * (shards + -(-tested // request.shard_rows)),
        examples=rows,
        checkpoints=checkpoints,
        measured_by=measured_by,
        scored_tokens=scored,
        answers=answers,
        answer_tokens=_each(answers, lambda n: n * length),
        engine_seconds=seconds,
        workers=engines,
        seconds=_each(seconds, lambda total: total / engines) if seconds and engines else None,
        result_bytes=_each(answers, lambda n: n * (BYTES_PER_ANSWER + length * BYTES_PER_TOKEN)),
        weight_bytes=pace.weight_bytes if pace else None,
        cache_bytes=pace.cache_bytes if pace else None,
        notes=_notes(request, measured=pace is not None, engines=engines, max_tokens=request.sampling.max_tokens),
    )


def _lengths(database: Database, store: Store, dataset: str, template: Template, *, field: str) -> tuple[int, float]:
    """Rows, and characters of all prompts and targets; of a chat those of all its messages."""
    rows, characters = 0, 0.0
    try:
        for table in read_columns(database, store, dataset, "question", "trace"):
            rows += table.num_rows
            characters += sum(pc.sum(pc.utf8_length(table[name])).as_py() or 0 for name in ("question", "trace"))
    except NotFound as error:
        raise FieldError(field, f"{error}: upload it to /v1/datasets first") from error
    fixed = len(template.render_prompt("")) + len(template.render_target("")) + len(template.system)
    return rows, characters + rows * fixed


def _turns(template: Template) -> int:
    """Messages of a row: what the user and the assistant say, and the system."""
    return 2 + bool(template.system) if template.chat else 0


def _answers(request: JobRequest, *, rows: int, tested: int) -> Between:
    """What is drawn of the training set depends on what was memorized; the rest does not."""
    k, checkpoints = request.sampling.samples, len(request.checkpoints)
    perturbed = rows * k * (len(request.perturbations) + 1) if request.perturbations else 0
    always = float(tested * k * checkpoints + perturbed)
    most = float(rows * k * checkpoints)
    least = most
    if request.trajectory_drawn == "final":
        least = most * (DRAWN_AS_RECORDED if request.below is None else DRAWN_BELOW_AS_RECORDED)
    elif request.trajectory_drawn == "full":
        least = float(rows * k)
    return Between(low=always + min(least, most), high=always + most)


def _measured_job(connection: Connection, job: str) -> JobRow:
    row = first_of(JobRow, connection, select(jobs).where(jobs.c.id == job))
    if row is None:
        raise FieldError("measured_by", f"there is no job {job!r}")
    return row


def _pace(database: Database, store: Store, job: JobRow) -> _Pace:
    """Raises Conflict where the job's results do not tell."""
    sums = (
        select(
            tasks.c.kind,
            func.sum(tasks.c.prompt_tokens).label("prompt_tokens"),
            func.sum(tasks.c.engine_seconds).label("seconds"),
            func.sum(tasks.c.samples).label("samples"),
            func.sum(tasks.c.tokens).label("tokens"),
            func.sum(tasks.c.stop - tasks.c.start).label("rows"),
            func.max(tasks.c.cache_bytes).label("cache_bytes"),
        )
        .where(tasks.c.job == job.id, tasks.c.state == "completed", tasks.c.kind.in_(("perplexity", "draw")))
        .group_by(tasks.c.kind)
    )
    with database.connect() as connection:
        found = {row.kind: row for row in all_of(PaceSums, connection, sums)}
    scored, drawn = found.get("perplexity"), found.get("draw")
    if not (scored and drawn and scored.seconds and drawn.seconds and drawn.samples and scored.prompt_tokens):
        raise Conflict(
            f"job {job.id} measured nothing: it has no perplexities and answers of tasks of their own "
            "(trajectory full or final, with an engine that tells its seconds)"
        )
    template = job.request.template
    rows, characters = _lengths(database, store, job.dataset, template, field="measured_by")
    scored_characters = characters / max(rows, 1) * int(scored.rows)
    text_tokens = max(0.0, int(scored.prompt_tokens) - int(scored.rows) * _turns(template) * TURN_TOKENS)
    return _Pace(
        tokens_per_character=text_tokens / max(scored_characters, 1.0),
        tokens_per_answer=int(drawn.tokens) / int(drawn.samples),
        scored_per_second=int(scored.prompt_tokens) / float(scored.seconds),
        answers_per_second=int(drawn.samples) / float(drawn.seconds),
        weight_bytes=_weight_bytes(job.produced_by),
        cache_bytes=drawn.cache_bytes or None,  # 0: the engine told none
    )


def _weight_bytes(produced_by: dict[str, str] | None) -> float | None:
    """Out of the model's family, "LlamaForCausalLM 8.03B", and the dtype that it was computed in."""
    if produced_by is None:
        return None
    named = re.fullmatch(r".* ([\d.]+)([kMB]?)", produced_by["model"])
    width = {"float32": 4, "bfloat16": 2, "float16": 2}.get(produced_by["dtype"])
    return float(named[1]) * _UNITS[named[2]] * width if named and width else None


def _notes(request: JobRequest, *, measured: bool, engines: int, max_tokens: int) -> list[str]:
    notes = []
    if measured:
        notes.append(
            "lengths, pace and memory are those of the measured job's tasks, on whatever worked them; grades are counted "
            "as if they never kept an engine waiting"
        )
    else:
        notes.append(
            f"nothing was measured: {TOKENS_PER_CHARACTER} tokens per character are assumed, and answers as long as half of "
            f"prompt and reference (at most {max_tokens} tokens); `premem score --dry-run` measures"
        )
    if request.template.chat:
        notes.append(f"the chat template is taken to add {TURN_TOKENS:g} tokens to each message")
    if not engines:
        notes.append(
            "no worker with an engine asked for a task within the last minute: start one for an estimate of the time"
        )
    if request.trajectory_drawn == "final":
        notes.append(
            "the low end is the share of answers that runs of three and more epochs needed, the high end is all of them"
        )
    if request.open:
        notes.append("the job is open: checkpoints that are appended later come on top")
    return notes


def _each(between: Between, change: Callable[[float], float]) -> Between:
    return Between(low=change(between.low), high=change(between.high))
