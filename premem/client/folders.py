"""A curated subset as a folder that `datasets.load_dataset` reads, with a data card."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from premem.errors import InputError
from premem.extras import brought_by
from premem.files import whole_file
from premem.wire.compatibility import read_reply
from premem.wire.lineage import LINEAGE_KEY, ExportLineage, Origin

SHARD_BYTES = 256 * 2**20
"""A shard is closed once it has this many bytes, compressed."""
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
"""Size categories of the Hugging Face hub, by the first number of rows above each."""


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes its name when the block ends well; after an error nothing of it is left.

    Raises InputError where something other than an empty folder is there already.
    """
    path = path.resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} is there already and is not empty: name another folder, or remove it")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                _sync(file)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def split(rows: Path, folder: Path, *, shard_bytes: int = SHARD_BYTES) -> None:
    """Move the rows of a Parquet file into shards, in their order, each with the file's metadata."""
    with brought_by("frames"):
        import pyarrow.parquet as pq

    folder.mkdir()
    shards: list[Path] = []
    with pq.ParquetFile(rows) as whole:
        schema = whole.schema_arrow
        writer: pq.ParquetWriter | None = None
        out: IO[bytes] | None = None
        try:
            for group in range(max(1, whole.num_row_groups)):
                if writer is None:
                    shards.append(folder / f"{len(shards)}.parquet")
                    out = shards[-1].open("xb")
                    writer = pq.ParquetWriter(out, schema, compression="zstd")
                if whole.num_row_groups:
                    writer.write_table(whole.read_row_group(group))
                if out is not None and out.tell() >= shard_bytes:
                    writer.close()
                    out.close()
                    writer = out = None
        finally:
            if writer is not None:
                writer.close()
            if out is not None:
                out.close()
    for number, shard in enumerate(shards):
        shard.rename(folder / f"train-{number:05d}-of-{len(shards):05d}.parquet")
    rows.unlink()


def lineage_of(parquet: Path | IO[bytes]) -> ExportLineage:
    """The lineage in the metadata of an export. Raises InputError where there is none."""
    with brought_by("frames"):
        import pyarrow.parquet as pq

    metadata = pq.read_schema(parquet).metadata or {}
    found = metadata.get(LINEAGE_KEY.encode())
    if found is None:
        raise InputError("the Parquet file has no lineage: premem did not export it")
    return read_reply(ExportLineage, found)


def describe(folder: Path) -> None:
    """Write lineage.json and README.md, the data card, next to the folder data/ with the shards."""
    lineage = lineage_of(min((folder / "data").iterdir()))
    (folder / "lineage.json").write_bytes(as_file(lineage))
    (folder / "README.md").write_text(card(lineage, weights=(folder / "weights").is_dir()), encoding="utf-8")


def as_file(lineage: Origin) -> bytes:
    return json.dumps(lineage.model_dump(mode="json"), indent=2).encode() + b"\n"


def write_beside(rows: Path, lineage: Origin) -> None:
    """Write FILE.lineage.json next to a file of rows: JSONL has no place for its lineage."""
    if rows.is_file():  # next to a pipe or a device there is no place
        with whole_file(rows.with_name(f"{rows.name}.lineage.json")) as out:
            out.write(as_file(lineage))


def card(lineage: ExportLineage, *, weights: bool = False) -> str:
    """The data card: between the dashes what the hub and `datasets` read, below them what people read."""
    size = next((name for most, name in SIZES.items() if lineage.rows < most), "n>10M")
    configs = [("default", "data/*.parquet"), *([("weights", "weights/*.parquet")] if weights else [])]
    head = ["---", f"pretty_name: {_yaml(f'{lineage.dataset_name}, curated')}", "tags:", "- premem", "- curated"]
    head += ["size_categories:", f"- {size}", "configs:"]
    for name, files in configs:
        head += [f"- config_name: {name}", "  data_files:", "  - split: train", f'    path: "{files}"']
    threshold = lineage.threshold
    perplexity = "" if threshold.memorized_below is None else f"{threshold.memorized_below:g}, "
    facts = [
        ("data set", f"{lineage.dataset_name} ({lineage.dataset}), {lineage.dataset_rows:,} rows"),
        ("job", lineage.job),
        ("policy", _policy(lineage)),
        ("rows", f"{lineage.rows:,} of {lineage.qualified:,} that qualified"),
        ("group", "the random control" if lineage.group == "control" else "what the policy chose"),
        ("seed", f"{lineage.seed} of the choice, {lineage.sampling.seed} of the samples"),
        ("memorized below", f"perplexity {perplexity}{threshold.basis}: {threshold.source}"),
        ("grader", lineage.grader.name),
        ("sampling", f"{lineage.sampling.samples} answers at temperature {lineage.sampling.temperature:g}"),
        *((f"produced by: {key}", value) for key, value in lineage.produced_by.items() if value),
        ("exported by", f"premem {lineage.premem}"),
    ]
    lines = [
        *head,
        "---",
        "",
        f"# {_md(lineage.dataset_name)}, curated",
        "",
        "Training examples chosen by their *pre-memorization accuracy*: the best accuracy that the model reached on each",
        "before it knew the reference by heart ([Kang et al. 2024](https://arxiv.org/abs/2411.07681)). Each row is as it was",
        "uploaded, the best choice first, with its scores added as `premem`.",
        "",
        *["| | |", "| --- | --- |", *(f"| {_md(name)} | {_md(value)} |" for name, value in facts)],
        "",
        *["| checkpoint | path | weights |", "| --- | --- | --- |"],
        *(f"| {_md(one.name)} | {_md(one.path)} | {one.weights or ''} |" for one in lineage.checkpoints),
        "",
        *(f"- Note: {_md(note)}" for note in lineage.notes),
        *([""] if lineage.notes else []),
        "```python",
        "from datasets import load_dataset",
        "",
        'rows = load_dataset("PATH OF THIS FOLDER", split="train")',
        *(['weights = load_dataset("PATH OF THIS FOLDER", "weights", split="train")'] if weights else []),
        "```",
        "",
        "`lineage.json` holds all that the choice follows from; the same again gives the same rows in the same order.",
    ]
    return "\n".join(lines) + "\n"


def _policy(lineage: ExportLineage) -> str:
    budget = "" if lineage.budget is None else f", at most {lineage.budget:,}"
    bounds = {
        "lowest": f", pre-memorization accuracy below {lineage.below:g}",
        "band": f", pre-memorization accuracy from {lineage.above:g} to below {lineage.below:g}",
        "mean": f", accuracy over all checkpoints below {lineage.below:g}",
    }
    return lineage.policy + bounds.get(lineage.policy, "") + budget


def _plain(text: str) -> str:
    """On one line, without control characters and characters that change the reading direction."""
    return "".join(" " if unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else one for one in text)


def _yaml(text: str) -> str:
    """As a string of YAML: JSON's strings are valid there."""
    return json.dumps(_plain(text), ensure_ascii=False)


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", _plain(text))


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())
