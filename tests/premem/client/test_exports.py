"""A curated folder as `datasets` reads it, and rows in memory, of a real service and an imported run."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml

from premem.client import folders
from premem.client.client import AsyncClient, Client
from premem.errors import InputError
from premem.wire.lineage import CheckpointLineage
from tests.premem.commands import LOW, ok, premem, read

LOADS = """
import json, sys
from datasets import load_dataset
rows = load_dataset(sys.argv[1], split="train")
weights = load_dataset(sys.argv[1], "weights", split="train")
print(json.dumps({"columns": rows.column_names, "rows": rows.to_list(), "weights": sum(weights["weight"]), "all": len(weights)}))
"""


def loaded(folder: Path, cache: Path) -> dict:
    """In a process of its own: `datasets` reads its settings when it is imported."""
    environment = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "PATH": "/usr/bin:/bin"}
    told = subprocess.run(
        [sys.executable, "-c", LOADS, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def test_datasets_loads_the_folder_with_the_rows_of_the_jsonl(url, job, tmp_path):
    options = ("--budget", "7", "--seed", "1")
    ok(premem(url, "curate", job, *options, "--format", "folder", "--weights", "-o", tmp_path / "low"))
    ok(premem(url, "curate", job, *options, "-o", tmp_path / "low.jsonl"))

    found = loaded(tmp_path / "low", tmp_path / "cache")
    lineage = json.loads((tmp_path / "low" / "lineage.json").read_text())

    assert found["columns"] == ["question", "answer", "premem"]
    assert found["rows"] == read(tmp_path / "low.jsonl")
    assert (found["all"], found["weights"]) == (60, pytest.approx(1.0))
    assert lineage == json.loads((tmp_path / "low.jsonl.lineage.json").read_text())
    assert (lineage["job"], lineage["seed"], lineage["rows"], lineage["qualified"]) == (job, 1, 7, LOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "low", "low.jsonl", "low.jsonl.lineage.json"]


def test_the_card_says_how_the_rows_were_chosen(url, job, tmp_path):
    with Client(url) as client:
        client.curated_folder(job, tmp_path / "low", policy="band", above=0.0, below=0.5, budget=3, seed=4)

    card = (tmp_path / "low" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])

    assert front["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}
    ]
    assert front["size_categories"] == ["n<1K"]
    assert "| policy | band, pre-memorization accuracy from 0 to below 0.5, at most 3 |" in card
    assert "| seed | 4 of the choice," in card
    assert "| checkpoint-10 |" in card


def test_the_card_says_which_weights_each_checkpoint_had(url, job):
    with Client(url) as client:
        lineage = client.curated_lineage(job)
    known, unknown = (CheckpointLineage(name=name, path=f"/runs/{name}") for name in ("known", "unknown"))

    card = folders.card(
        lineage.model_copy(update={"checkpoints": [known.model_copy(update={"weights": "f00d"}), unknown]})
    )

    assert "| known | /runs/known | f00d |" in card
    assert "| unknown | /runs/unknown |  |" in card


def test_hostile_names_stay_text_in_the_card(url, job, tmp_path):
    with Client(url) as client:
        lineage = client.curated_lineage(job)
    name = 'a"b: [x]\n---\n| <script>alert(1)</script> \x1b[31m \u202e`'

    card = folders.card(lineage.model_copy(update={"dataset_name": name}))

    head, front, body = card.split("---\n", 2)
    assert head == ""
    assert yaml.safe_load(front)["pretty_name"] == 'a"b: [x] --- | <script>alert(1)</script>  [31m  `, curated'
    assert "<script>" not in body.replace("\\<script", "")
    assert "\x1b" not in card


def test_a_large_export_is_split_in_order_and_keeps_its_metadata(url, job, tmp_path):
    with Client(url) as client:
        client.curated(job, tmp_path / "rows.parquet", format="parquet")
    rows = pl.read_parquet(tmp_path / "rows.parquet")
    groups = tmp_path / "groups.parquet"
    pq.write_table(pq.read_table(tmp_path / "rows.parquet"), groups, row_group_size=6)

    folders.split(groups, tmp_path / "data", shard_bytes=1)

    shards = sorted((tmp_path / "data").iterdir())
    assert [path.name for path in shards] == [f"train-{n:05d}-of-00004.parquet" for n in range(4)]
    assert pl.concat(pl.read_parquet(path) for path in shards).equals(rows)
    assert all(folders.lineage_of(path).rows == LOW for path in shards)


def test_what_stands_there_is_kept_and_nothing_half_written_is_left(url, job, tmp_path):
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "mine").write_text("mine")

    refused = premem(url, "curate", job, "--format", "folder", "-o", tmp_path / "low")
    failed = premem(url, "curate", "job_none", "--format", "folder", "-o", tmp_path / "other")

    assert refused.returncode == failed.returncode == 2
    assert "is there already and is not empty: name another folder, or remove it" in refused.stderr
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["low", "low/mine"]


def test_rows_in_memory_are_frames_with_their_lineage(url, job):
    async def asking():
        async with AsyncClient(url) as client:
            return await client.curated_table(job, budget=5)

    with Client(url) as client:
        curated = client.curated_table(job, budget=5)

    assert curated.parquet == asyncio.run(asking()).parquet
    assert len(curated) == curated.to_polars().height == 5
    assert [row["row"] for row in curated.to_polars()["premem"]] == [0, 1, 2, 3, 4]
    assert (curated.lineage.job, curated.lineage.budget) == (job, 5)


def test_parquet_of_others_has_no_lineage(tmp_path):
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "a.parquet")

    with pytest.raises(InputError, match="has no lineage"):
        folders.lineage_of(tmp_path / "a.parquet")
