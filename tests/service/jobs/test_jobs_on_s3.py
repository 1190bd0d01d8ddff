"""A whole job with its artifacts in an object store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from premem.records import Observation
from premem_service.app import create_app
from premem_service.settings import Settings
from tests.s3 import BUCKET, KEYS, s3_server
from tests.service.serving import upload
from tests.service.working import ended, work_off


@pytest.fixture
def client(tmp_path, monkeypatch) -> Iterator[TestClient]:
    """A service over SQLite and a bucket."""
    with s3_server() as url:
        environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": KEYS["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": KEYS["secret_access_key"],
            "AWS_REGION": KEYS["region"],
            "AWS_ALLOW_HTTP": "true",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = Settings(data_dir=tmp_path, store_url=f"s3://{BUCKET}/here", round_seconds=0.05)
        with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
            yield client


def test_a_job_in_a_bucket_is_scored_ranked_and_exported(client):
    dataset = upload(client, rows=12)
    body = {"dataset": dataset, "checkpoints": [{"path": "/r/1"}], "sampling": {"samples": 2}, "shard_rows": 4}
    job = client.post("/v1/jobs", json=body).json()["id"]
    work_off(client, lambda checkpoint, row: Observation(correct=1, sampled=2, perplexity=2.0))

    assert client.get("/readyz").status_code == 200
    assert ended(client, job)["state"] == "completed"
    assert client.get(f"/v1/jobs/{job}/examples").json()["total"] == 12
    assert len(client.get(f"/v1/jobs/{job}/examples/5").json()["checkpoints"][0]["answers"]) == 2
    assert client.get(f"/v1/jobs/{job}/curated", params={"below": 1.0}).headers["X-Premem-Rows"] == "12"
