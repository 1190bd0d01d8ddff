"""The command that scores: upload, post the job, wait, and write the results beside the data."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import IO, Any

import typer

from premem.cli.exits import FAILED, print_json
from premem.cli.jobs import send, show_job, warn_of_rows, watched
from premem.cli.score_options import ScoreOptions, typed_as
from premem.client.client import Client
from premem.client.estimates import measured_estimate
from premem.client.folders import write_beside
from premem.client.routes.exports import RowsFormat
from premem.client.scoring import graded_alike
from premem.client.sources import is_source, source
from premem.errors import InputError, NotFound, Unreachable
from premem.extras import brought_by, check_installed, check_packages
from premem.files import whole_file
from premem.local import LocalService
from premem.output.console import say, show
from premem.output.progress import progress
from premem.output.reports import estimate_lines, show_report
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import ENDED, Checkpoint, Job, JobRequest
from premem.wire.reports import JobReport

SCORES_PER_PAGE = 1000


@dataclass(frozen=True)
class Scoring:
    """What `premem score` was asked for, checked as far as it can be without a service."""

    data: str
    test: str | None
    request: JobRequest
    """Its data sets are not yet known."""
    upload: dict[str, Any]
    """Columns, grader and the rest, for the data and the test set."""
    folder: Path
    """Where the results go."""
    stem: str
    below: float
    budget: int | None
    format: RowsFormat
    dry_run: bool = False


@typed_as(ScoreOptions)
def score(**typed: Any) -> None:
    r"""Score every checkpoint of a finetuning run on its own training data, and rank the examples.

    Written beside the data: NAME.scores.jsonl (every example), NAME.curated.jsonl (those that the model could not solve
    before it memorized them) and NAME.report.json. Without --service, a private service and worker run on this machine
    until it is done and keep what they know in NAME.premem: run the same command again to go on after an interruption.

    Example: `premem score train.jsonl out/checkpoint-* --test test.jsonl --grader gsm8k`
    """
    options = ScoreOptions(**typed)
    scoring = checked(options)
    if options.service is None:
        score_privately(
            scoring, engine=options.engine, workers=options.workers, hub=options.hub, as_json=options.as_json
        )
    else:
        score_with(options.service, scoring, as_json=options.as_json)


def checked(options: ScoreOptions) -> Scoring:
    """Raises InputError for whatever can be seen to be wrong without a service."""
    if (ordered := options.ordered()) != options.checkpoints:
        say(f"checkpoints in the order of their steps: {', '.join(Path(path).name for path in ordered)}")
    away = is_source(options.data)
    scoring = Scoring(
        data=options.data,
        test=options.test,
        request=options.request(),
        upload=options.upload(),
        folder=options.out or (Path() if away else Path(options.data).parent),
        stem=_stem(options.data),
        below=options.below,
        budget=options.budget,
        format=options.format_,
        dry_run=options.dry_run,
    )
    private = options.service is None
    named = os.sep in options.data or "." in options.data  # as no id of a data set is
    if not away and not Path(options.data).is_file() and (private or named):
        raise InputError(f"{options.data}: there is no such file")
    if options.test and not is_source(options.test) and not Path(options.test).is_file():
        raise InputError(f"{options.test}: there is no such file")
    if private:
        check_installed("service", "worker")
    if options.format_ == "parquet":
        check_packages("polars", extra="frames")
    scoring.folder.mkdir(parents=True, exist_ok=True)
    return scoring


def _stem(data: str) -> str:
    name = source(data).name if is_source(data) else Path(data).name
    for ending in (".gz", ".zst", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".csv"):
        name = name.removesuffix(ending)
    return name or Path(data).name


def score_with(url: str, scoring: Scoring, *, as_json: bool) -> None:
    """With a service that stays up: Ctrl-C leaves the job to it."""
    with Client(url) as client:
        request = _with_datasets(client, scoring)
        if scoring.dry_run:
            _tell_cost(client, request, as_json=as_json)
            return
        job = client.create_job(request)
        say(f"job {job.id}")
        try:
            ended = watched(client, job.id)
        except KeyboardInterrupt:
            say(f"the job goes on: premem status {job.id} --watch, or premem cancel {job.id}")
            raise
        _finish(client, ended, scoring, as_json=as_json)


def score_privately(scoring: Scoring, *, engine: str | None, workers: int, hub: bool, as_json: bool) -> None:
    kept = scoring.folder / f"{scoring.stem}.premem"
    paths = [Path(checkpoint.path) for checkpoint in scoring.request.checkpoints]
    roots = sorted({path.parent for path in [*paths, *_bases(scoring.request)] if path.is_dir()})
    say(f"starting a private service in {kept}")
    with (
        _ending_cleanly(kept),
        LocalService(kept, checkpoint_roots=roots, workers=workers, engine=engine, hub=hub) as local,
        Client(local.url, attempts=2) as client,
    ):
        try:
            request = _with_datasets(client, scoring)
            if scoring.dry_run:
                _tell_cost(client, request, as_json=as_json, on_progress=lambda _: local.check(), away_seconds=0)
                return
            job = _same_or_new_job(client, request, kept / "score.json")
            ended = watched(client, job.id, on_progress=lambda _: local.check(), away_seconds=0)
            _finish(client, ended, scoring, as_json=as_json)
        except Unreachable:
            local.check()  # why it does not answer
            raise
    if not as_json:
        say(f"to look at single answers: premem serve --data-dir {kept}, then premem examples {ended.id} --row ROW")


def _tell_cost(client: Client, request: JobRequest, *, as_json: bool, **waiting: Any) -> None:
    def wait(client: Client, job: Job) -> Job:
        return watched(client, job.id, doing="measuring", **waiting)

    found = measured_estimate(client, request, wait=wait)
    if as_json:
        print_json(found)
    else:
        show(*estimate_lines(found))


def _bases(request: JobRequest) -> Iterator[Path]:
    """Where the adapters among the checkpoints have their base, as far as it lies on this machine."""
    if request.base is not None:
        yield Path(request.base)
    for checkpoint in request.checkpoints:
        config = Path(checkpoint.path) / "adapter_config.json"
        if request.base is None and config.is_file():
            with suppress(OSError, ValueError, TypeError):  # the worker says what is wrong with it
                yield Path(json.loads(config.read_text())["base_model_name_or_path"]).resolve()


@contextmanager
def _ending_cleanly(kept: Path) -> Iterator[None]:
    """Asked to end, end the private service too, and say that nothing is lost."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; what is done is kept in {kept}: run the same command again to go on")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _with_datasets(client: Client, scoring: Scoring) -> JobRequest:
    """The request with its data sets, uploaded where they are files."""
    known: dict[str, Any] = {}
    if is_source(scoring.data) or Path(scoring.data).is_file():
        dataset = send(client, scoring.data, **scoring.upload)
        warn_of_rows(dataset)
        known["dataset"] = dataset.id
    else:
        dataset = client.dataset(scoring.data)
        known["dataset"] = dataset.id
        if grader := scoring.upload["grader"]:
            known["grader"] = GraderChoice(name=grader, options=scoring.upload["grader_options"])
    if scoring.test:
        # Both are graded alike, whatever grader the test set by itself would have been given.
        settled = {} if scoring.upload["grader"] else graded_alike(dataset)
        twins = send(client, scoring.test, **{**scoring.upload, **settled})
        warn_of_rows(twins)
        known["test_dataset"] = twins.id
    return scoring.request.model_copy(update=known)


def _same_or_new_job(client: Client, request: JobRequest, memo: Path) -> Job:
    """The job of an earlier run that asked for the same, or a new one; nobody waits for any other job."""
    asked = _fingerprint(request)
    try:
        known = json.loads(memo.read_text())
    except (FileNotFoundError, ValueError):
        known = {}
    if known.get("asked") == asked:
        try:
            job = client.job(known["job"])
        except NotFound:
            pass
        else:
            if job.state in {"queued", "running", "finalizing", "completed"}:
                say(f"{'scored before, as' if job.state == 'completed' else 'going on with'} job {job.id}")
                return job
    for other in client.jobs():
        if other.state not in ENDED:
            client.cancel(other.id)
    job = client.create_job(request)
    with whole_file(memo) as out:
        out.write(json.dumps({"job": job.id, "asked": asked}).encode())
    return job


def _fingerprint(request: JobRequest) -> str:
    """Changes with what is asked for and with the checkpoints' files."""
    files = [_files_of(checkpoint) for checkpoint in request.checkpoints]
    return hashlib.sha256(json.dumps([request.model_dump(mode="json"), files]).encode()).hexdigest()


def _files_of(checkpoint: Checkpoint) -> list[tuple[str, int, int]]:
    folder = Path(checkpoint.path)
    if not folder.is_dir():
        return []
    found = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    return [(name, about.st_size, about.st_mtime_ns) for name, about in found]


def _finish(client: Client, job: Job, scoring: Scoring, *, as_json: bool) -> None:
    """Write the results and show the report, or say why there are none."""
    if job.state != "completed":
        if as_json:
            print_json({"job": job.model_dump(mode="json")})
        else:
            show_job(job)
        raise typer.Exit(FAILED)
    report = client.report(job.id)
    files = {
        "scores": scoring.folder / f"{scoring.stem}.scores.{scoring.format}",
        "curated": scoring.folder / f"{scoring.stem}.curated.{scoring.format}",
        "report": scoring.folder / f"{scoring.stem}.report.json",
    }
    _write_scores(client, job, files["scores"], scoring.format)
    curated = client.curated(
        job.id, files["curated"], below=scoring.below, budget=scoring.budget, format=scoring.format
    )
    lineage = client.curated_lineage(job.id, below=scoring.below, budget=scoring.budget)
    write_beside(files["curated"], lineage)
    _write_report(report, files["report"])
    if as_json:
        print_json(
            {
                "job": job.model_dump(mode="json"),
                "report": report.model_dump(mode="json"),
                "files": {name: str(path) for name, path in files.items()},
                "curated_rows": curated,
            }
        )
        return
    show_report(report)
    say(f"every example's score: {files['scores']}")
    say(f"{curated:,} rows with a pre-memorization accuracy below {scoring.below:g}: {files['curated']}")
    say(f"the report: {files['report']}")


def _write_scores(client: Client, job: Job, path: Path, format_: RowsFormat) -> None:
    """Every ranked example, a line or a row each."""
    rows = _rows(client, job)
    with whole_file(path) as out:
        if format_ == "jsonl":
            out.writelines(json.dumps(row).encode() + b"\n" for row in rows)
        else:
            _write_parquet(rows, out)


def _rows(client: Client, job: Job) -> Iterator[dict[str, Any]]:
    total = client.examples(job.id, limit=1).total
    with progress("writing scores", unit="examples") as meter:
        for number, example in enumerate(client.iter_examples(job.id, page_size=SCORES_PER_PAGE), start=1):
            yield example.model_dump(mode="json")
            meter(number, total)


def _write_parquet(rows: Iterator[dict[str, Any]], out: IO[bytes]) -> None:
    with brought_by("frames"):
        import polars as pl

    frames = [pl.DataFrame()]
    while page := list(islice(rows, SCORES_PER_PAGE)):
        frames.append(pl.DataFrame(page))
    pl.concat(frames, how="diagonal").write_parquet(out)


def _write_report(report: JobReport, path: Path) -> None:
    with whole_file(path) as out:
        out.write(json.dumps(report.model_dump(mode="json"), indent=2).encode() + b"\n")
