"""`premem score --dry-run` measures on a few examples with a real worker, and scores nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.checkpoints import make_checkpoint


def test_a_dry_run_measures_and_tells(tmp_path: Path):
    rows = [{"question": f"{n} + {n}?", "answer": f"It is {2 * n}. #### {2 * n}"} for n in range(200)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (10, 20, 30):
        make_checkpoint(tmp_path / f"checkpoint-{step}", seed=step)
    command = ["score", tmp_path / "train.jsonl", *(tmp_path / f"checkpoint-{step}" for step in (10, 20, 30))]
    options = ["--samples", "2", "--max-tokens", "8", "--engine", "transformers", "--dry-run"]

    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREMEM_")}
    ended = subprocess.run(
        [sys.executable, "-m", "premem", *map(str, command), *options, "--json"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=180,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["examples"], found["checkpoints"], found["workers"]) == (200, 3, 1)
    assert found["answers"]["high"] == 1200
    assert 0 < found["engine_seconds"]["low"] < found["engine_seconds"]["high"]
    assert found["weight_bytes"] > 0
    assert found["cache_bytes"] > 0
    assert not list(tmp_path.glob("*.scores.*"))
