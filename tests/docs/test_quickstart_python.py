"""The Python of the quickstart runs as it stands there."""

from __future__ import annotations

import io
import re
from pathlib import Path

import polars as pl

from tests.premem.steered import REPORT, Reply, Steered, dataset_of, job_of, page_of, scored

PAGE = Path(__file__).parents[2] / "docs" / "quickstart" / "python.md"


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"question": "2 + 3?", "answer": "#### 5"}\n')
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with Steered() as service:
        monkeypatch.setenv("PREMEM_SERVICE", service.url)
        service.on("POST /v1/datasets", Reply(dataset_of(), status=201))
        service.on("POST /v1/jobs", Reply(job_of("queued"), status=202))
        service.on("GET /v1/jobs/job_1", Reply(job_of("completed")))
        service.on("GET /v1/jobs/job_1/report", Reply(REPORT))
        service.on("GET /v1/jobs/job_1/examples", Reply(page_of(scored(0, "2 + 3?"))))
        jsonl, table = Reply(b"{}\n", headers={"X-Premem-Rows": "1"}), io.BytesIO()
        pl.DataFrame({"question": ["2 + 3?"]}).write_parquet(table)
        service.on("GET /v1/jobs/job_1/curated", jsonl, Reply(table.getvalue()))

        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), {})  # noqa: S102

    assert len(blocks) == 3
    assert capsys.readouterr().out.splitlines() == ["completed", "checkpoint-5 0.4 0.3", "0.3", "0.0 2 + 3?"]
    assert (tmp_path / "low.jsonl").read_bytes() == b"{}\n"
