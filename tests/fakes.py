"""Stand-ins for tests: an engine and its tokenizer, made of arithmetic, and a service that a test can steer."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from premem.errors import Interrupted
from premem.records import Example, Grade
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import Checkpoint, Perturbation, Sampling, Template
from premem.wire.tasks import AttemptBody, DrawPlan, FailureReport, LeasedTask, LeaseRequest, ResultSummary, TaskKind
from premem_worker.engines.feed import Feed
from premem_worker.engines.requests import Embedded, EmbedRequest, Sampled, SampleRequest, Scored, ScoreRequest

BOS = 256


class ByteTokenizer:
    """One token per byte of UTF-8, and one in front of every text."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [BOS, *text.encode()] if add_special_tokens else list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if token != BOS).decode(errors="replace")


class FakeEngine:
    """Adds up the numbers in the prompt. A checkpoint or adapter that ends in -N gets N tenths of its answers right.

    Everything follows from tokens, checkpoint and seed, as it does with a real engine.
    """

    name = "fake"
    continuous = True

    def __init__(self, *, context: int = 4096) -> None:
        self.context = context
        self.tokenizer = ByteTokenizer()
        self.produced_by = {"engine": self.name, "versions": "fake 1", "dtype": "float32", "device": "cpu"}
        self.cache_bytes = 2**20
        self.loads: list[tuple[Path, str | None]] = []
        self.closed = False
        self.checkpoint: Path | None = None
        """Which answers; an adapter's where there is one."""

    def load(self, checkpoint: Path, *, dtype: str | None, adapter: Path | None = None) -> None:
        asked = adapter or checkpoint
        if self.checkpoint != asked:
            self.loads.append((asked, dtype))
        self.checkpoint = asked

    def run(
        self,
        requests: Feed | Sequence[ScoreRequest | SampleRequest],
        *,
        sampling: Sampling,
        stopped: Callable[[], bool],
    ) -> Iterator[Scored | Sampled]:
        for request in Feed.of(requests).each(stopped):
            if stopped():
                raise Interrupted("stopped")
            if isinstance(request, ScoreRequest):
                yield self.score(request)
            else:
                yield from (self.answer(request, sample, sampling) for sample in range(len(request.seeds)))

    def score(self, request: ScoreRequest) -> Scored:
        targets = range(request.target_start, len(request.tokens))
        return Scored(
            row=request.row,
            log_likelihood=sum(-2.0 * self._chance(request.tokens[: end + 1]) for end in targets),
            tokens=len(targets),
        )

    def answer(self, request: SampleRequest, sample: int, sampling: Sampling) -> Sampled:
        prompt = self.tokenizer.decode(request.tokens)
        total = sum(int(number) for number in re.findall(r"\d+", prompt))
        drawn = self._chance(request.tokens, request.seeds[sample] if sampling.temperature else 0)
        text = f" It is {total} #### {total if drawn < self._skill() else total + 1}"
        cut = self.tokenizer.encode(text, add_special_tokens=False)[: sampling.max_tokens]
        return Sampled(
            request.row, request.first + sample, self.tokenizer.decode(cut), len(cut), len(cut) < sampling.max_tokens
        )

    def close(self) -> None:
        self.closed = True
        self.checkpoint = None

    def kill(self) -> None:
        pass

    def _skill(self) -> float:
        step = re.search(r"-(\d+)$", str(self.checkpoint))
        return int(step[1]) / 10 if step else 0.5

    def _chance(self, tokens: Sequence[int], seed: int = 0) -> float:
        """In (0, 1), the same for the same question."""
        key = f"{self.checkpoint}|{seed}|{','.join(map(str, tokens))}"
        drawn = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest(), "big")
        return (drawn + 1) / (2**48 + 2)


class FakeEmbedder(FakeEngine):
    """Gives the first two numbers of a prompt as its embedding."""

    def embed(self, requests: Sequence[EmbedRequest], *, stopped: Callable[[], bool]) -> Iterator[Embedded]:
        for request in requests:
            if stopped():
                raise Interrupted("stopped")
            numbers = re.findall(r"\d+", self.tokenizer.decode(request.tokens))
            yield Embedded(request.row, (float(numbers[0]), float(numbers[1])))


class Comparing:
    """A grading pool without processes: right where the text ends in the reference's last word."""

    def __init__(self) -> None:
        self.graded: list[tuple[str, str]] = []
        self.closed = False

    def submit(self, reference: str, answer: str) -> Future[Grade]:
        self.graded.append((reference, answer))
        future: Future[Grade] = Future()
        found = answer.split()[-1]
        future.set_result(Grade("right" if found == reference.split()[-1] else "wrong", found))
        return future

    def close(self) -> None:
        self.closed = True


def examples(count: int) -> list[Example]:
    """Sums that the fake engine can add up: row 3 asks for 3 + 4."""
    return [
        Example(id=f"e{n}", question=f"{n} + {n + 1}?", trace=f"{n} + {n + 1} = {2 * n + 1} #### {2 * n + 1}")
        for n in range(count)
    ]


def make_task(
    id: str = "task-1",  # noqa: A002
    *,
    attempt: int = 1,
    start: int = 0,
    stop: int = 3,
    kind: TaskKind = "train",
    checkpoint: str = "/runs/checkpoint-5",
    sampling: Sampling | None = None,
    template: Template | None = None,
    grader: GraderChoice | None = None,
    tokenizer: str | None = None,
    lease_seconds: float = 60.0,
    variant: int = 0,
    perturbation: Perturbation | None = None,
    regrade: bool = False,
    plan: DrawPlan | None = None,
    partial: bool = False,
) -> LeasedTask:
    return LeasedTask(
        id=id,
        job="job-1",
        attempt=attempt,
        lease_seconds=lease_seconds,
        expires_at=datetime.now(UTC) + timedelta(seconds=lease_seconds),
        kind=kind,
        variant=variant,
        perturbation=perturbation,
        regrade=regrade,
        plan=plan,
        partial=partial,
        checkpoint=Checkpoint(path=checkpoint),
        dataset="data",
        start=start,
        stop=stop,
        sampling=sampling or Sampling(samples=2, max_tokens=64),
        template=template or Template(),
        grader=grader or GraderChoice(),
        dtype=None,
        tokenizer=tokenizer,
    )


class FakeService:
    """The task routes over real HTTP, without a queue's rules: a test says which task is stale and which cancelled."""

    def __init__(self, *, rows: Sequence[Example] = ()) -> None:
        self.rows = list(rows)
        self.columns: list[dict[str, str]] = [{} for _ in self.rows]
        """Of the rows as they were uploaded."""
        self.sources: dict[str, bytes] = {}
        self.partials: dict[str, list[bytes]] = {}
        self.refuses_partials: Response | None = None
        self.tasks: deque[LeasedTask] = deque()
        self.stale: set[str] = set()
        self.cancelled: set[str] = set()
        self.answers_with: Response | None = None
        """To everything, as a proxy does whose service is away."""
        self.leases: list[LeaseRequest] = []
        self.beats: Counter[str] = Counter()
        self.results: dict[str, list[bytes]] = {}
        self.failures: list[tuple[str, FailureReport]] = []
        self.released: list[tuple[str, int]] = []
        self.refused: dict[str, str] = {}
        """Tasks whose results are refused, and why."""
        self.retry_seconds = 0.05
        """For a worker that got no task."""
        self.takes_results = threading.Event()
        """Until it is set, a result that was sent is not answered."""
        self.takes_results.set()
        self.after_result: Callable[[str], object] = lambda task: None
        """Called with each task whose result was taken, before that is answered."""
        self.requests = 0
        self.authorizations: set[str | None] = set()
        self._changed = threading.Condition()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FakeService:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()  # from here on the kernel keeps callers waiting until the server takes them
        self._server = uvicorn.Server(uvicorn.Config(self._app(), log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(10)
        self._server = None

    def wait_for(self, condition: Callable[[], object], seconds: float = 20.0) -> bool:
        """Whether the condition came true; looked at after every request."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(condition()), seconds)

    def frame(self, task: str) -> pl.DataFrame:
        """The last result that was taken for a task."""
        return pl.read_parquet(io.BytesIO(self.results[task][-1]))

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def tell(request: Request, call_next: Callable[[Request], object]) -> Response:
            self.requests += 1
            self.authorizations.add(request.headers.get("Authorization"))
            response = self.answers_with or await call_next(request)  # type: ignore[misc]
            with self._changed:
                self._changed.notify_all()
            return response  # type: ignore[return-value]

        @app.post("/v1/tasks/lease")
        def lease(body: LeaseRequest) -> Response:
            self.leases.append(body)
            if not self.tasks:
                return Response(status_code=204, headers={"Retry-After": str(self.retry_seconds)})
            return JSONResponse(self.tasks.popleft().model_dump(mode="json"))

        @app.post("/v1/tasks/{task}/heartbeat")
        def heartbeat(task: str, body: AttemptBody) -> Response:
            self.beats[task] += 1
            if task in self.stale:
                return stale_attempt()
            soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
            return JSONResponse({"expires_at": soon, "cancelled": task in self.cancelled})

        @app.post("/v1/tasks/{task}/release", status_code=204)
        def release(task: str, body: AttemptBody) -> None:
            self.released.append((task, body.attempt))

        @app.post("/v1/tasks/{task}/failure", status_code=204)
        def failure(task: str, body: FailureReport) -> None:
            self.failures.append((task, body))

        @app.put("/v1/tasks/{task}/result")
        async def result(task: str, attempt: int, request: Request) -> Response:
            content = await request.body()
            await run_in_threadpool(self.takes_results.wait, 60)
            if task in self.stale:
                return stale_attempt()
            if task in self.refused:
                return problem(422, "/problems/invalid-input", self.refused[task])
            self.results.setdefault(task, []).append(content)
            rows = pl.read_parquet(io.BytesIO(content)).height
            self.after_result(task)
            return JSONResponse(ResultSummary(task=task, attempt=attempt, rows=rows).model_dump())

        @app.get("/v1/tasks/{task}/source")
        def source(task: str) -> Response:
            return Response(self.sources[task], media_type="application/vnd.apache.parquet")

        @app.get("/v1/tasks/{task}/partial")
        def partial(task: str) -> Response:
            return Response(self.partials[task][-1], media_type="application/vnd.apache.parquet")

        @app.put("/v1/tasks/{task}/partial", status_code=204)
        async def put_partial(task: str, attempt: int, request: Request) -> Response:
            content = await request.body()
            if self.refuses_partials is not None:
                return self.refuses_partials
            if task in self.stale:
                return stale_attempt()
            self.partials.setdefault(task, []).append(content)
            return Response(status_code=204)

        @app.get("/v1/datasets/{dataset}/rows")
        def rows(dataset: str, start: int, stop: int) -> Response:
            if dataset != "data":
                return problem(404, "/problems/not-found", f"there is no data set {dataset}")
            return Response(
                rows_parquet(self.rows, start, stop, columns=self.columns), media_type="application/vnd.apache.parquet"
            )

        return app


def rows_parquet(rows: Sequence[Example], start: int, stop: int, *, columns: Sequence[dict[str, str]]) -> bytes:
    frame = pl.DataFrame(
        [
            {
                "row": row,
                "id": e.id,
                "question": e.question,
                "trace": e.trace,
                "final_answer": e.final_answer,
                "columns": json.dumps(columns[row]),
            }
            for row, e in enumerate(rows)
        ][start:stop],
        schema={
            "row": pl.Int64,
            "id": pl.String,
            "question": pl.String,
            "trace": pl.String,
            "final_answer": pl.String,
            "columns": pl.String,
        },
    )
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


def problem(status: int, type_: str, detail: str) -> Response:
    return JSONResponse(
        {"type": type_, "title": detail, "status": status, "detail": detail},
        status_code=status,
        media_type="application/problem+json",
    )


def stale_attempt() -> Response:
    return problem(409, "/problems/stale-attempt", "the lease has passed to another attempt")


def nan(request: ScoreRequest) -> Scored:
    return Scored(row=request.row, log_likelihood=math.nan, tokens=len(request.tokens) - request.target_start)
