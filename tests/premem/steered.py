"""A service over real HTTP that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel

from premem.wire.datasets import Dataset
from premem.wire.examples import CheckpointAnswers, ExampleDetail, ExamplePage, ScoredExample
from premem.wire.jobs import Job, ThresholdReply
from premem.wire.lineage import ExportLineage
from premem.wire.reports import CheckpointReport, JobReport, LowReply


@dataclass(frozen=True)
class Reply:
    body: bytes | dict[str, object] | BaseModel = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    dropped: bool = False
    """The connection ends before a word is said."""
    cut: bool = False
    """The connection ends in the middle of the body."""

    @property
    def content(self) -> bytes:
        if isinstance(self.body, BaseModel):
            return self.body.model_dump_json().encode()
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of a test."""


class Steered:
    """Use it as a context manager. What has no answer is 404."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._replies: dict[str, list[Reply]] = {}
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Steered:
        # 10 ms: how long the end of a test waits
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def on(self, request: str, *replies: Reply) -> None:
        """`request` is "GET /path"; the replies come one after the other, the last one again and again."""
        self._replies[request] = list(replies)

    def _answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        replies = self._replies.get(f"{asked.method} {asked.path}")
        if not replies:
            return problem(404, "not-found", f"there is no {asked.path}")
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def _handler(steered) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                url = urlsplit(self.path)
                asked = Asked(self.command, url.path, dict(parse_qsl(url.query)), dict(self.headers), self.read_body())
                reply = steered._answer(asked)
                if reply.dropped:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content[: len(reply.content) // 2] if reply.cut else reply.content)
                self.close_connection = reply.cut

            do_GET = do_POST = do_DELETE = do

            def read_body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def problem(
    status: int, type_: str, detail: str, *, headers: Mapping[str, str] | None = None, **extras: object
) -> Reply:
    body = {"type": f"/problems/{type_}", "title": type_, "status": status, "detail": detail, **extras}
    return Reply(body, status=status, headers={"Content-Type": "application/problem+json", **(headers or {})})


# What a service says, as short as it can be


def dataset_of(rows: int = 3, *, ungradable_lines: tuple[int, ...] = ()) -> Dataset:
    return Dataset(
        id="ds_1",
        name="train.jsonl",
        rows=rows,
        bytes=100,
        columns={"question": "question", "trace": "answer"},
        grader={"name": "gsm8k"},
        ungradable=len(ungradable_lines),
        ungradable_lines=[{"line": n, "field": None, "message": "no final answer"} for n in ungradable_lines],
        created_at=datetime.now(UTC),
    )


THRESHOLD = ThresholdReply(
    memorized_below=1.1055, basis="preset", source="the paper", forecast_reason="calibrate on several runs"
)


def job_of(state: str, *, done: int = 0, errors: tuple[str, ...] = ()) -> Job:
    tasks = {"total": 2, "completed": done // 3}
    return Job(
        id="job_1",
        name="",
        state=state,
        open=False,
        dataset="ds_1",
        test_dataset=None,
        sampling={},
        template={},
        grader={},
        dtype=None,
        threshold=THRESHOLD,
        counts={
            "tasks": tasks,
            "examples": done,
            "examples_total": 6,
            "skipped": 0,
            "samples": 5 * done,
            "tokens": 50 * done,
        },
        checkpoints=[{"name": "checkpoint-5", "path": "/runs/checkpoint-5", "state": "running", "tasks": tasks}],
        created_at=datetime.now(UTC),
        started_at=None,
        finished_at=None,
        seconds_left=None,
        errors=list(errors),
        warnings=[],
    )


def scored(rank: int, question: str = "2 + 3?") -> ScoredExample:
    return ScoredExample(
        rank=rank,
        row=10 + rank,
        id=f"e{rank}",
        question=question,
        pre_memorization_accuracy=0.2 * rank,
        mean_accuracy=0.5,
        accuracy=[0.2 * rank, 0.8],
        perplexity=[1.5, 1.01],
        memorized=[False, True],
        interval={"low": 0.1, "high": 0.9},
    )


def page_of(*items: ScoredExample, total: int | None = None, next_cursor: str | None = None) -> ExamplePage:
    return ExamplePage(
        items=list(items),
        checkpoints=["checkpoint-5", "checkpoint-9"],
        threshold=THRESHOLD,
        total=len(items) if total is None else total,
        next_cursor=next_cursor,
    )


def detail_of(text: str) -> ExampleDetail:
    answer = {"text": text, "verdict": "wrong", "extracted": "4", "tokens": 9, "finished": True}
    seen = CheckpointAnswers(checkpoint="checkpoint-5", perplexity=1.5, memorized=False, accuracy=0.0, answers=[answer])
    about = scored(0).model_dump() | {"question": "2 + 3?"}
    return ExampleDetail(
        **about, trace="#### 5", final_answer=None, columns={}, checkpoints=[seen], threshold=THRESHOLD
    )


def lineage_of(*, below: float) -> ExportLineage:
    return ExportLineage(
        job="job_1",
        dataset="ds_1",
        policy="lowest",
        below=below,
        above=0.0,
        budget=7,
        seed=0,
        threshold=THRESHOLD,
        group="chosen",
        rows=1,
        qualified=1,
        excluded=0,
        notes=[],
        dataset_name="train.jsonl",
        dataset_rows=3,
        test_dataset=None,
        kind="score",
        parent=None,
        previous=None,
        recorded=False,
        checkpoints=[],
        sampling={},
        template={},
        grader={},
        trajectory="final",
        only_below=None,
        calibration=None,
        tie_order=["lowest first"],
        produced_by={"engine": "fake"},
        finished_at=None,
        premem="0.1.0",
    )


REPORT = JobReport(
    job="job_1",
    dataset="ds_1",
    threshold=THRESHOLD,
    tie_order=["lowest first"],
    checkpoints=[
        CheckpointReport(
            checkpoint="checkpoint-5",
            examples=3,
            train_accuracy=0.4,
            memorized=0.25,
            pre_memorization_accuracy=0.3,
            test_accuracy=0.35,
            test_examples=6,
        )
    ],
    skipped=1,
    skipped_reasons={"too long for the model's context": 1},
    warnings=[],
    produced_by={"engine": "fake"},
    low=LowReply(below=0.5, examples=2, traits=[], notes=[]),
)
