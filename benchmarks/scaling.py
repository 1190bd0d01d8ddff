"""Whether a second worker halves the time, and whether twice the examples take twice as long.

    python -m benchmarks.scaling [--engine vllm] [--rows 1024] [--rounds 3] [--keep]

Two private services, with one worker and with two, each worker with one thread on this machine. Each does a small job first,
which loads the model; then jobs over once, twice and four times the examples, from the first lease to the last result.
A job's end, where one worker is through and the other has a task left, costs the same however long the job is: in one of
few tasks it hides what a second worker is worth, so that the aim holds for the longest. Only an idle machine with a core
for each worker and one to spare shows what is measured here.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.measured import Measured, Ratio, header
from benchmarks.pipelining import HOUSE, SAMPLING
from lab.questions import training_rows, write_jsonl
from premem import Client
from premem.local import LocalService
from premem.wire.jobs import Checkpoint, JobRequest

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "PREMEM_WORKER_GRADERS": "1"}
TIMES = (1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("auto", "vllm", "transformers"), default="auto")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    print(header())
    measured = Measured(
        "scaling",
        f"{arguments.rows} examples x {SAMPLING.samples} answers, the lab's model, {arguments.engine} on {os.cpu_count()} cores.",
    )
    seconds: dict[tuple[int, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            with (
                LocalService(
                    Path(folder) / f"service-{workers}",
                    checkpoint_roots=[HOUSE / "lab"],
                    workers=workers,
                    engine=arguments.engine,
                    environment=ENVIRONMENT,
                ) as local,
                Client(local.url) as client,
            ):
                for _ in range(workers):
                    took(client, Path(folder), rows=64, shard_rows=8)
                for times in TIMES:
                    for _ in range(arguments.rounds):
                        one = took(client, Path(folder), rows=arguments.rows * times, shard_rows=64)
                        seconds.setdefault((workers, times), []).append(one)
    one = seconds[1, 1]
    for times in TIMES:
        aim = "at least 1.8" if times == TIMES[-1] else ""
        alone, both = seconds[1, times], seconds[2, times]
        measured.tell(Ratio(f"the same job, {times}x", "one worker", alone, "two workers", both, "s", aim=aim))
    for times in TIMES[1:]:
        each = [value / times for value in seconds[1, times]]
        measured.tell(
            Ratio(
                f"per example of {times} times as many", f"{times} times", each, "once", one, "s", aim="within 10% of 1"
            )
        )
    measured.note(
        "seconds by number of examples", ", ".join(f"{n}x {statistics.median(seconds[1, n]):.1f}" for n in TIMES)
    )
    if arguments.keep:
        measured.keep()


def took(client: Client, folder: Path, *, rows: int, shard_rows: int) -> float:
    """Seconds from the first lease of a new job until it is completed."""
    data = folder / f"{rows}.jsonl"
    write_jsonl(data, training_rows(rows, seed=5))
    request = JobRequest(
        dataset=client.upload(data).id,
        checkpoints=[Checkpoint(path=str(HOUSE / "lab/base"))],
        sampling=SAMPLING,
        memorized_below=1.1,
        trajectory="everything",
        shard_rows=shard_rows,
    )
    job = client.wait(client.create_job(request).id, timeout=1200)
    if job.state != "completed" or job.started_at is None or job.finished_at is None:
        raise SystemExit(f"the job is {job.state}: {job.errors}")
    return (job.finished_at - job.started_at).total_seconds()


if __name__ == "__main__":
    main()
