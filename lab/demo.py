"""The whole way once, on this machine: finetune a small model, score its checkpoints, curate.

    python -m lab.demo      # or: make demo

Everything it writes lies in the folder demo. On a terminal the service stays up afterwards until Ctrl-C.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich import box
from rich.table import Table
from rich.text import Text

from lab.questions import training_rows, twin_rows, write_jsonl
from premem.cli.examples import first_examples
from premem.cli.exits import complain
from premem.cli.jobs import send, show_job, warn_of_rows, watched
from premem.client.client import Client
from premem.errors import InputError, PrememError, Unreachable
from premem.local import LocalService
from premem.output.console import say, show
from premem.output.reports import show_report
from premem.output.text import printable
from premem.wire.datasets import Columns
from premem.wire.examples import AnswerReply, ExampleDetail
from premem.wire.jobs import Checkpoint, Job, JobRequest, Sampling

EXAMPLES = 200
TWINS = 2
EPOCHS = 12
EVERY = 2
"""Epochs between two checkpoints."""
LEARNING_RATE = 6e-3
MEMORIZED_BELOW = 1.488
"""What fits seven other runs best, see LOG.md; the wording's chance alone costs 1.489."""
MAX_TOKENS = 96
"""More than twice the longest trace."""
SHARD_ROWS = 100
"""Small, so that the counter moves."""
SHOWN = 10
CURATED_BELOW = 0.5
PORT = 8321


def demo(folder: Path, *, engine: str, examples: int, epochs: int, every: int) -> None:
    """Raises PrememError where a step fails, with the end of the log of the process to blame."""
    started = time.monotonic()
    train, test, run = folder / "train.jsonl", folder / "test.jsonl", folder / "run"
    heading(f"1. A finetuning run: {examples} examples, {epochs} epochs, {-(-epochs // every)} checkpoints")
    rows = training_rows(examples, seed=0)
    write_jsonl(train, rows)
    write_jsonl(test, twin_rows(rows, twins=TWINS, seed=0))
    checkpoints = finetuned(train, run, epochs=epochs, every=every)

    heading("2. A premem service and one worker")
    show("starting, a few seconds …")
    with (
        LocalService(
            folder / "service",
            checkpoint_roots=[run],
            engine=engine,
            port=PORT if is_free(PORT) else 0,
            # A model this small is slower with more threads.
            environment={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        ) as local,
        Client(local.url, attempts=2) as client,
    ):
        show(f"the service listens on {local.url}; logs: {folder / 'service'}/*.log")
        try:
            heading("3. Upload, score every checkpoint")
            job = scored(client, local, train=train, test=test, checkpoints=checkpoints)
            heading("4. What the run learned, and what it only memorized")
            show_report(client.report(job.id))
            show_lowest(client, job)
            curated = client.curated(job.id, folder / "curated.jsonl", below=CURATED_BELOW)
        except Unreachable:
            local.check()  # why it does not answer
            raise
        show(
            f"\n{curated} examples with a pre-memorization accuracy below {CURATED_BELOW:g}: {folder / 'curated.jsonl'}",
            f"Done in {time.monotonic() - started:.0f} s. Job {job.id} on {local.url} (API: {local.url}/docs)",
        )
        if sys.stdin.isatty() and sys.stdout.isatty():
            stay_up(local, job)
    show("The service and its worker have ended.")


def finetuned(train: Path, run: Path, *, epochs: int, every: int) -> list[Path]:
    """The checkpoints' folders, in order. In a process of its own, which gives its memory back."""
    command = [sys.executable, "-m", "lab.finetune", "--data", str(train), "--out", str(run)]
    command += ["--epochs", str(epochs), "--every", str(every), "--lr", str(LEARNING_RATE)]
    show("loading torch and the base, a few seconds …")
    finetuning = subprocess.Popen(command)
    try:
        status = finetuning.wait()
    finally:
        if finetuning.poll() is None:
            finetuning.kill()
            finetuning.wait()
    if status:
        raise PrememError(f"finetuning ended with status {status}; what it said stands above")
    return sorted(run.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))


def scored(client: Client, local: LocalService, *, train: Path, test: Path, checkpoints: Sequence[Path]) -> Job:
    """The completed job. Raises PrememError where it ended otherwise."""
    dataset = send(client, train, columns=Columns(), grader="gsm8k")
    twins = send(client, test, columns=Columns(), grader="gsm8k")
    for sent in (dataset, twins):
        warn_of_rows(sent)
        show(f"{sent.name}: {sent.rows} rows, data set {sent.id}")
    request = JobRequest(
        dataset=dataset.id,
        test_dataset=twins.id,
        checkpoints=[Checkpoint(path=str(folder.resolve())) for folder in checkpoints],
        name="demo",
        sampling=Sampling(max_tokens=MAX_TOKENS),
        memorized_below=MEMORIZED_BELOW,
        shard_rows=SHARD_ROWS,
    )
    job = watched(client, client.create_job(request).id, on_progress=lambda _: local.check(), away_seconds=0)
    if job.state != "completed":
        show_job(job)
        raise PrememError(f"the job is {job.state}, not completed; the logs lie in {local.folder}")
    return job


def show_lowest(client: Client, job: Job) -> None:
    """The lowest examples, each with its reference beside an answer that went wrong."""
    table = Table(box=box.SIMPLE_HEAD, title=f"The {SHOWN} lowest", title_justify="left", show_lines=True)
    for name in ("rank", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("question", "reference", "an answer that went wrong"):
        table.add_column(name, overflow="fold", ratio=1)
    for item in first_examples(client, job.id, SHOWN).items:
        example = client.example(job.id, item.row)
        table.add_row(
            str(item.rank),
            f"{item.pre_memorization_accuracy:.2f}",
            Text(printable(example.question)),
            Text(printable(example.trace)),
            Text(printable(wrong_answer(example))),
        )
    show(table)


def wrong_answer(example: ExampleDetail) -> str:
    """From the latest checkpoint that gave one, before the example was memorized where possible."""
    latest_first = list(reversed(example.checkpoints))
    for seen in sorted(latest_first, key=lambda seen: bool(seen.memorized)):
        wrong: list[AnswerReply] = [answer for answer in seen.answers if answer.verdict != "right"]
        if wrong:
            return f"{wrong[0].text.strip()}\n({wrong[0].verdict}, {seen.checkpoint})"
    return "(none: every sampled answer is right)"


def stay_up(local: LocalService, job: Job) -> None:
    show(
        f"Look around: PREMEM_SERVICE={local.url} .venv/bin/premem examples {job.id}",
        "The service stays up. Ctrl-C stops it and its worker.",
    )
    try:
        while True:
            local.check()
            time.sleep(1.0)
    except KeyboardInterrupt:
        say("stopping")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def heading(text: str) -> None:
    show(Text(f"\n{text}", style="bold"))


@contextmanager
def fresh(folder: Path) -> Iterator[None]:
    """The demo's folder, for this demo alone, without what an earlier one left. Raises InputError where one runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "in-use").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"another demo ({lock.read().strip()}) uses {folder}: end it with Ctrl-C, or give another --folder"
            ) from None
        lock.truncate(0)
        lock.write(f"pid {os.getpid()}")
        lock.flush()
        for left in ("run", "service"):
            shutil.rmtree(folder / left, ignore_errors=True)
        for left in ("train.jsonl", "test.jsonl", "curated.jsonl"):
            (folder / left).unlink(missing_ok=True)
        yield


def end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--engine",
        choices=("auto", "vllm", "transformers"),
        default="auto",
        help="auto takes vLLM where it is installed (default %(default)s)",
    )
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="default %(default)s")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="default %(default)s")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default %(default)s")
    parser.add_argument("--every", type=int, default=EVERY, help="epochs between two checkpoints (default %(default)s)")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        with fresh(options.folder):
            demo(
                options.folder,
                engine=options.engine,
                examples=options.examples,
                epochs=options.epochs,
                every=options.every,
            )
    except (PrememError, OSError) as error:
        return complain(error)
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
