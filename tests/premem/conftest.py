"""A service without workers, and a run that was imported into it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from premem.local import LocalService
from tests.premem.commands import EXAMPLES, LOW, lines, premem


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalService(tmp_path_factory.mktemp("service"), checkpoint_roots=[], workers=0) as local:
        yield local.url


@pytest.fixture(scope="module")
def job(url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Row 0 to 19 were never solved, and their questions are about trains; the others were, and are about cakes."""
    folder = tmp_path_factory.mktemp("runs")
    checkpoint = folder / "sums_full_lr1e-05_bs8" / "checkpoint-10"
    checkpoint.mkdir(parents=True)
    right = np.arange(EXAMPLES) >= LOW
    np.save(checkpoint / "train_answer_types5_seed2_temp0.8.npy", np.repeat(~right[:, None], 5, axis=1).astype(int))
    np.save(checkpoint / "test_answer_types5_seed2_temp0.8.npy", np.zeros((4, 5), dtype=int))
    np.save(checkpoint / "train_perplexities.npy", np.full(EXAMPLES, 2.0))
    rows = [
        {"question": f"A {'train' if row < LOW else 'cake'} of {row} parts, and one more?", "answer": f"#### {row + 1}"}
        for row in range(EXAMPLES)
    ]
    data = lines(folder / "sums.jsonl", rows)
    ended = premem(url, "import-recorded", folder, "--data", data, "--model", "LlamaForCausalLM 236k", "--json")
    assert ended.returncode == 0, ended.stderr
    (imported,) = json.loads(ended.stdout)["items"]
    return imported["id"]
