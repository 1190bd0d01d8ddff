"""A checkpoint that is trained anew between two tasks of a job, with a real worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from premem import Client
from premem.wire.jobs import Checkpoint, JobRequest, Sampling
from tests.checkpoints import make_checkpoint
from tests.end_to_end.processes import HOUSE, Service


def one_task(service: Service, run: Path) -> None:
    arguments = ["--engine", "transformers", "--checkpoint-root", str(run), "--once"]
    ended = subprocess.run(
        [sys.executable, "-m", "premem_worker", "--service", service.url, *arguments],
        cwd=HOUSE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def retrain(checkpoint: Path) -> None:
    """As a run that was started again would, to which the clock is no help."""
    weights = checkpoint / "model.safetensors"
    before = weights.stat()
    other = make_checkpoint(checkpoint.parent / "again", seed=2) / "model.safetensors"
    weights.write_bytes(other.read_bytes())
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("trajectory", ["final", "everything"])
def test_a_checkpoint_trained_anew_between_two_tasks_fails_the_job(tmp_path: Path, trajectory: str):
    run = tmp_path / "run"
    checkpoint = make_checkpoint(run / "checkpoint-1", seed=1)
    rows = [{"question": f"{n} + {n}?", "answer": f"It is {n}"} for n in range(4)]
    (run / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    service = Service(tmp_path, database_url=f"sqlite:///{tmp_path / 'premem.db'}")
    try:
        with Client(service.url) as client:
            dataset = client.upload(run / "train.jsonl", grader="regex", grader_options={"pattern": r"(\d)"})
            request = JobRequest(
                dataset=dataset.id,
                checkpoints=[Checkpoint(path=str(checkpoint))],
                sampling=Sampling(samples=2, max_tokens=8),
                memorized_below=1.2,
                trajectory=trajectory,  # type: ignore[arg-type]
                shard_rows=4 if trajectory == "final" else 2,
            )
            job = client.create_job(request).id

            one_task(service, run)
            retrain(checkpoint)
            one_task(service, run)

            ended = client.wait(job, timeout=60)
            assert ended.state == "failed"
            assert "checkpoint 'checkpoint-1' was written anew between two tasks" in (ended.checkpoints[0].error or "")
            assert "Post the job again" in (ended.checkpoints[0].error or "")
    finally:
        service.stop()
