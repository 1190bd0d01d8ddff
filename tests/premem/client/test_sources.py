"""Rows that lie elsewhere, sent on to a service as they come: through `datasets`, and out of a bucket."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import polars as pl
import pytest

from premem.client.client import Client
from premem.client.sources import HubRows, StoredFile, is_source, source
from premem.errors import InputError
from tests.premem.commands import ok, premem
from tests.premem.steered import Reply, Steered, dataset_of
from tests.s3 import BUCKET, KEYS, s3_server

ROWS = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}", "level": n} for n in range(30)]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set with two splits, as a folder."""
    folder = tmp_path / "sums"
    folder.mkdir()
    pl.DataFrame(ROWS[:20]).write_parquet(folder / "train-00000-of-00001.parquet")
    pl.DataFrame(ROWS[20:]).write_parquet(folder / "test-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def bucket() -> Iterator[pytest.MonkeyPatch]:
    """A server of objects, told by the environment."""
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server)
        patch.setenv("AWS_ACCESS_KEY_ID", KEYS["access_key_id"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret_access_key"])
        patch.setenv("AWS_REGION", KEYS["region"])
        patch.setenv("AWS_ALLOW_HTTP", "true")
        lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
        store = boto3.client(
            "s3",
            endpoint_url=server,
            aws_access_key_id=KEYS["access_key_id"],
            aws_secret_access_key=KEYS["secret_access_key"],
            region_name=KEYS["region"],
        )
        store.put_object(Bucket=BUCKET, Key="data/sums.jsonl.gz", Body=gzip.compress(lines))
        yield patch


def test_a_data_set_of_the_hub_is_uploaded_by_its_split(url, folder):
    ended = ok(premem(url, "upload", f"hf://{folder}?split=test", "--json"))

    dataset = json.loads(ended.stdout)
    with Client(url) as client:
        rows = client.rows(dataset["id"])
    assert (dataset["name"], dataset["rows"]) == ("sums", 10)
    assert rows == ROWS[20:]


def test_a_file_of_a_bucket_is_uploaded_as_it_is(url, bucket):
    with Client(url) as client:
        dataset = client.upload(f"s3://{BUCKET}/data/sums.jsonl.gz")
        rows = client.rows(dataset.id)

    assert (dataset.name, rows) == ("sums.jsonl.gz", ROWS)


def test_an_answer_that_is_lost_is_asked_for_again_with_the_rows_from_the_start(folder):
    with Steered() as service, Client(service.url) as client:
        service.on("POST /v1/datasets", Reply(dropped=True), Reply(dataset_of(), status=201))
        client.upload(f"hf://{folder}?split=train")

        sent = [[json.loads(line) for line in asked.body.splitlines()] for asked in service.asked]

    assert sent == [ROWS[:20], ROWS[:20]]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "has the splits train, test: choose one with ?split=train"),
        ("?split=validation", "there is no split 'validation', only train, test"),
        ("?split=train&config=french", "french"),
        ("?part=train", "'part' is not understood; after ? come split, config, revision"),
    ],
)
def test_what_is_missing_is_said(url, folder, query, told):
    ended = premem(url, "upload", f"hf://{folder}{query}")

    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_only_split_need_not_be_named(folder):
    (folder / "test-00000-of-00001.parquet").unlink()

    assert list(HubRows.of(f"hf://{folder}").rows()) == ROWS[:20]


def test_a_split_without_rows_is_said(folder):
    pl.DataFrame(ROWS[:20]).clear().write_parquet(folder / "test-00000-of-00001.parquet")

    with pytest.raises(InputError, match="the split 'test' has no rows"):
        list(HubRows.of(f"hf://{folder}?split=test").rows())


def test_without_the_library_it_is_said_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(InputError, match=r"pip install 'premem\[datasets\]'"):
        list(HubRows.of(f"hf://{folder}").rows())


def test_a_file_that_is_not_in_the_bucket_is_said(url, bucket):
    with Client(url) as client, pytest.raises(InputError, match="there is no such file in the bucket"):
        client.upload(f"s3://{BUCKET}/data/none.jsonl")


@pytest.mark.parametrize("away", ["s3://bucket", "s3:///key.jsonl", "hf://", "hf://?split=train"])
def test_a_source_that_says_too_little_is_refused(away):
    with pytest.raises(InputError, match="it looks like"):
        source(away)


def test_what_is_no_source_is_a_file(url):
    with Client(url) as client, pytest.raises(InputError, match="rows are read from files, hf://"):
        client.upload("https://example.org/train.jsonl")

    assert not is_source("train.jsonl")
    assert not is_source("C:/train.jsonl")
    assert source("s3://bucket/a%20b/train.jsonl") == StoredFile(
        "s3://bucket/a%20b/train.jsonl", "s3://bucket", "a b/train.jsonl"
    )
