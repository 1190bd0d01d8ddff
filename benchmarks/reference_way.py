"""Scoring a run beside the reference way: one forward pass per example, a fresh vLLM per checkpoint, every answer drawn.

    python -m benchmarks.reference_way [--examples 300] [--epochs 12] [--every 2] [--rounds 3] [--keep]

Finetunes the lab's base, then scores its checkpoints in turns: the reference way (reference_stage.py) and `premem`, a
private service with one worker, from the first process until the report is there, both with vLLM. Checked: the
perplexities are the same to 1e-4, and the mean scores differ by no more than sampling does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measured import Measured, Ratio, header
from lab.demo import LEARNING_RATE, MEMORIZED_BELOW
from lab.finetune import finetune
from lab.questions import training_rows, write_jsonl
from premem.client.client import Client
from premem.grading import get_grader
from premem.local import LocalService
from premem.method.memorization import pre_memorization_accuracies
from premem.wire.bodies import GraderChoice
from premem.wire.jobs import Checkpoint, JobRequest, Sampling

HOUSE = Path(__file__).parents[1]
SAMPLING = Sampling(max_tokens=96)
CLOSE = 1e-4
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    seconds: float
    parts: dict[str, float]
    """Seconds by what they went into."""
    score_E: Floats
    perplexity_CE: Floats
    samples: int
    tokens: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    print(header())
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "train.jsonl", Path(folder) / "run"
        rows = training_rows(arguments.examples, seed=0)
        write_jsonl(data, rows)
        made = finetune(
            rows,
            base=HOUSE / "lab/base",
            out=run,
            epochs=arguments.epochs,
            learning_rate=LEARNING_RATE,
            every=arguments.every,
        )
        checkpoints = [path for path, _ in made]
        setup = f"{arguments.examples} examples x {len(checkpoints)} checkpoints, k = {SAMPLING.samples}, the lab's model, vLLM on a CPU"
        measured = Measured("reference_way", f"Scoring a whole run: {setup}.")
        ours, theirs = [], []
        for number in range(arguments.rounds):
            theirs.append(reference(data, checkpoints, Path(folder), seed=number))
            ours.append(premem(data, checkpoints, Path(folder) / f"service-{number}", seed=number))
            print(f"round {number}: reference {theirs[-1].seconds:.1f} s, premem {ours[-1].seconds:.1f} s", flush=True)
            check(ours[-1], theirs[-1], measured)
    one, other = [found.seconds for found in theirs], [found.seconds for found in ours]
    measured.tell(Ratio("wall time", "reference way", one, "premem", other, "s", aim="at least 6"))
    drawn = [float(found.samples) for found in theirs], [float(found.samples) for found in ours]
    measured.tell(Ratio("answers drawn", "reference way", drawn[0], "premem", drawn[1], "answers"))
    for name, every in (("reference way", theirs), ("premem", ours)):
        parts = {part: statistics.median(found.parts[part] for found in every) for part in every[0].parts}
        measured.note(f"{name}, seconds", ", ".join(f"{part} {seconds:.1f}" for part, seconds in parts.items()))
    if arguments.keep:
        measured.keep()


def reference(data: Path, checkpoints: list[Path], folder: Path, *, seed: int) -> Scored:
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    grader = get_grader(GraderChoice(name="gsm8k"))
    began = time.perf_counter()
    out = folder / "stage.json"
    _stage("perplexities", data, out, checkpoints)
    perplexity_CE = np.array(json.loads(out.read_text())["perplexities"])
    parts = {"perplexities": time.perf_counter() - began, "start": 0.0, "sample": 0.0, "grade": 0.0}
    accuracies, samples, tokens = [], 0, 0
    for checkpoint in checkpoints:
        _stage("answers", data, out, [checkpoint])
        found = json.loads(out.read_text())
        graded = time.perf_counter()
        verdicts = [
            [grader.grade(row["answer"], text).verdict == "right" for text in texts]
            for row, texts in zip(rows, found["answers"], strict=True)
        ]
        parts["grade"] += time.perf_counter() - graded
        for part in ("start", "sample"):
            parts[part] += found[part]
        accuracies.append(np.mean(verdicts, axis=1))
        samples += sum(map(len, verdicts))
        tokens += found["tokens"]
    seconds = time.perf_counter() - began
    parts["processes"] = seconds - sum(parts.values())
    accuracy_CE = np.array(accuracies)
    score_E = pre_memorization_accuracies(accuracy_CE, perplexity_CE, memorized_below=MEMORIZED_BELOW)[-1]
    return Scored(seconds, parts, score_E, perplexity_CE, samples, tokens)


def _stage(stage: str, data: Path, out: Path, checkpoints: list[Path]) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.reference_stage",
        stage,
        str(data),
        str(out),
        SAMPLING.model_dump_json(),
    ]
    environment = {**os.environ, **ENVIRONMENT}
    subprocess.run(
        [*command, *map(str, checkpoints)], cwd=HOUSE, env=environment, check=True, stdout=subprocess.DEVNULL
    )


def premem(data: Path, checkpoints: list[Path], folder: Path, *, seed: int) -> Scored:
    began = time.perf_counter()
    with (
        LocalService(folder, checkpoint_roots=[checkpoints[0].parent], engine="vllm", environment=ENVIRONMENT) as local,
        Client(local.url) as client,
    ):
        request = JobRequest(
            dataset=client.upload(data, grader="gsm8k").id,
            checkpoints=[Checkpoint(path=str(checkpoint.resolve())) for checkpoint in checkpoints],
            sampling=SAMPLING.model_copy(update={"seed": seed}),
            memorized_below=MEMORIZED_BELOW,
            trajectory="final",
        )
        job = client.create_job(request)
        moments = {"service": time.perf_counter() - began}
        while job.state not in ("completed", "failed"):
            time.sleep(0.1)
            job = client.job(job.id)
            if job.counts.examples:
                moments.setdefault("engine and first task", time.perf_counter() - began)
            if job.counts.examples == job.counts.examples_total:
                moments.setdefault("perplexities", time.perf_counter() - began)
        if job.state != "completed":
            raise SystemExit(f"the job {job.state}: {job.errors}")
        client.report(job.id)
        seconds = time.perf_counter() - began
        moments["answers"] = seconds
        matrix = client.matrix(job.id)
    order = np.argsort(matrix.row_E)
    ends = list(moments.values())
    parts = {part: end - before for (part, end), before in zip(moments.items(), [0.0, *ends], strict=False)}
    parts["ending"] = time.perf_counter() - began - seconds
    parts |= worker_parts(folder / "worker-1.log")
    score_E, perplexity_CE = matrix.score_E[order].astype(float), matrix.perplexity_CE[:, order].astype(float)
    return Scored(time.perf_counter() - began, parts, score_E, perplexity_CE, job.counts.samples, job.counts.tokens)


def worker_parts(log: Path) -> dict[str, float]:
    """Seconds of the one worker, as it logs them of each task: beside the moments that are seen from outside."""
    parts = dict.fromkeys(("start", "swap", "score", "sample", "last grades"), 0.0)
    for line in log.read_text().splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "task done":
            parts["swap" if parts["start"] else "start"] += event["loading_seconds"]
            parts["score" if event["kind"] == "perplexity" else "sample"] += event["engine_seconds"]
            parts["last grades"] += event["waiting_seconds"]
    return {f"worker: {part}": seconds for part, seconds in parts.items()}


def check(ours: Scored, theirs: Scored, measured: Measured) -> None:
    """Raises SystemExit where the two ways do not find the same."""
    off = float(np.abs(ours.perplexity_CE / theirs.perplexity_CE - 1).max())
    difference_E = ours.score_E - theirs.score_E
    error = float(difference_E.std(ddof=1) / np.sqrt(len(difference_E)))
    measured.facts["largest relative difference of a perplexity"] = max(
        off, measured.facts.get("largest relative difference of a perplexity", 0.0)
    )
    means = f"{ours.score_E.mean():.4f} and {theirs.score_E.mean():.4f} (their difference's standard error {error:.4f})"
    every = measured.facts.get("mean scores, premem and reference", "")
    measured.facts["mean scores, premem and reference"] = f"{every}; {means}" if every else means
    print(f"perplexities {off:.2g} apart at most; mean scores {means}")
    if off > CLOSE:
        raise SystemExit(f"perplexities are {off:.2g} apart")
    if abs(difference_E.mean()) > 4 * error:
        raise SystemExit(f"mean scores are {means}")


if __name__ == "__main__":
    main()
