"""LoRA adapters and checkpoints in object stores, as a worker finds them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from premem.errors import CheckpointError
from premem_worker.checkpoints import adapters
from premem_worker.checkpoints.adapters import WEIGHTS
from premem_worker.checkpoints.located import Located
from premem_worker.engines.transformers.engine import TransformersEngine
from premem_worker.parts import Parts, real_parts
from premem_worker.settings import Settings
from tests.checkpoints import make_checkpoint
from tests.s3 import BUCKET, KEYS, s3_server
from tests.worker.adapters import TOKENS, make_adapter, perplexity


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two adapters of it."""
    folder = tmp_path_factory.mktemp("run")
    make_checkpoint(folder / "base", seed=1)
    for step in (10, 20):
        make_adapter(folder / f"checkpoint-{step}", folder / "base", seed=step)
    return folder


def parts_of(run: Path, cache: Path, **settings: object) -> Parts:
    return real_parts(Settings(engine="transformers", checkpoint_roots=[run], cache=cache, **settings))


@torch.inference_mode()
def by_peft(base: Path, adapter: Path) -> float:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    logits = model(input_ids=torch.tensor([TOKENS])).logits[0, :-1]
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(TOKENS[1:]), reduction="sum"))


def test_an_adapter_scores_as_it_does_beside_its_base(run: Path, tmp_path: Path):
    parts = parts_of(run, tmp_path)

    found = [perplexity(parts.locate(str(run / name), None)) for name in ("base", "checkpoint-10", "checkpoint-20")]

    assert found[1:] == pytest.approx(
        [by_peft(run / "base", run / f"checkpoint-{step}") for step in (10, 20)], rel=1e-5
    )
    assert len(set(found)) == 3


def test_adapters_of_one_base_are_one_model_with_the_bases_tokenizer(run: Path, tmp_path: Path):
    parts = parts_of(run, tmp_path)

    base, first, second = (parts.locate(str(run / name), None) for name in ("base", "checkpoint-10", "checkpoint-20"))

    assert base.tokenizer == first.tokenizer == second.tokenizer
    assert base.model == first.model
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2
    assert parts.locate(str(run / "checkpoint-10"), None).folder == first.folder


def test_the_base_that_the_job_names_goes_before_the_adapters_own(run: Path, tmp_path: Path):
    make_checkpoint(tmp_path / "other", seed=9)
    parts = real_parts(
        Settings(engine="transformers", checkpoint_roots=[run, tmp_path / "other"], cache=tmp_path / "cache")
    )

    located = parts.locate(str(run / "checkpoint-10"), str(tmp_path / "other"))

    assert perplexity(located) == pytest.approx(by_peft(tmp_path / "other", run / "checkpoint-10"), rel=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"q_proj": 32}},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
    ids=["dora", "ranks", "head saved", "embedding saved", "head", "embedding"],
)
@pytest.mark.parametrize("tied", [True, False])
def test_whatever_peft_can_merge_scores_as_it_does_beside_its_base(tmp_path: Path, config: dict[str, Any], tied: bool):
    make_checkpoint(tmp_path / "base", seed=4, tied=tied)
    adapter = make_adapter(tmp_path / "adapter", tmp_path / "base", seed=5, **config)

    located = parts_of(tmp_path, tmp_path / "cache").locate(str(adapter), None)

    assert perplexity(located) == pytest.approx(by_peft(tmp_path / "base", adapter), rel=1e-5)


@pytest.mark.parametrize(
    "config",
    [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"target_modules": ["q_proj", "lm_head"]}],
    ids=["dora", "saved", "head"],
)
def test_an_adapter_that_vllm_does_not_compute_beside_its_base_is_merged(
    run: Path, tmp_path: Path, config: dict[str, Any]
):
    adapter = make_adapter(tmp_path / "adapter", run / "base", seed=5, **config)

    assert not adapters.fits_beside(adapters.Pair(adapter, run / "base"))
    assert adapters.fits_beside(adapters.Pair(run / "checkpoint-20", run / "base"))


def test_an_adapter_of_other_shapes_or_layers_is_not_computed_beside_its_base(run: Path, tmp_path: Path):
    make_checkpoint(tmp_path / "deep", seed=1, layers=3)
    make_checkpoint(tmp_path / "wide", seed=1, hidden=128)
    deep = make_adapter(tmp_path / "adapter", tmp_path / "deep", seed=5)

    for adapter, base in [(deep, run / "base")] + [
        (run / "checkpoint-10", tmp_path / name) for name in ("deep", "wide")
    ]:
        assert not adapters.fits_beside(adapters.Pair(adapter, base))


def test_the_transformers_engine_takes_an_adapter_beside_its_base_too(run: Path):
    located = Located(run / "base", "", adapter=run / "checkpoint-10")
    engine = TransformersEngine(device="cpu")

    adapted, plain = perplexity(located, engine), perplexity(Located(run / "base", ""), engine)

    assert adapted == pytest.approx(by_peft(run / "base", run / "checkpoint-10"), rel=1e-5)
    assert plain != adapted
    assert perplexity(located, engine) == adapted


def test_a_rank_above_the_workers_limit_is_refused(run: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"rank 4: it must lie between 1 and 3; .*--max-lora-rank"):
        parts_of(run, tmp_path, max_lora_rank=3).locate(str(run / "checkpoint-10"), None)


def test_an_adapter_that_the_base_has_no_place_for_is_refused(run: Path, tmp_path: Path):
    make_checkpoint(tmp_path / "deep", seed=1, layers=3)
    deep = make_adapter(tmp_path / "adapter", tmp_path / "deep", seed=5)
    parts = real_parts(Settings(engine="transformers", checkpoint_roots=[run, tmp_path], cache=tmp_path / "cache"))

    with pytest.raises(CheckpointError, match="the base has no place for 6 of its tensors"):
        parts.locate(str(deep), str(run / "base"))
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} lacks 6 of the 18 tensors"):
        parts.locate(str(run / "checkpoint-10"), str(tmp_path / "deep"))


def test_a_truncated_adapter_is_refused(run: Path, tmp_path: Path):
    weights = _copied(run, tmp_path) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-50])

    with pytest.raises(CheckpointError, match="is truncated"):
        parts_of(tmp_path, tmp_path / "cache").locate(str(weights.parent), str(run / "base"))


def test_a_quantized_base_is_refused(run: Path, tmp_path: Path):
    base = Path(shutil.copytree(run / "base", tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}}))

    with pytest.raises(CheckpointError, match=r"is quantized .*: name the one that it was quantized from"):
        parts_of(tmp_path, tmp_path / "cache").locate(str(_copied(run, tmp_path)), str(base))


def test_an_adapter_written_anew_while_it_is_merged_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    adapter, merge = _copied(run, tmp_path), adapters._merge

    def disturbed(*how: Any, **more: Any) -> None:
        merge(*how, **more)
        shutil.copyfile(run / "checkpoint-20" / WEIGHTS, adapter / WEIGHTS)

    monkeypatch.setattr(adapters, "_merge", disturbed)
    parts = real_parts(Settings(engine="transformers", checkpoint_roots=[run, tmp_path], cache=tmp_path / "cache"))

    with pytest.raises(CheckpointError, match="was written anew while they were merged"):
        parts.locate(str(adapter), str(run / "base"))
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"r": 100_000}, "rank 100000"),
        ({"rank_pattern": {"q_proj": 100_000}}, "rank 100000"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"base_model_name_or_path": None}, "--base"),
        ({"base_model_name_or_path": "/elsewhere"}, "base of the adapter .*/elsewhere lies outside"),
    ],
)
def test_an_adapter_that_cannot_be_merged_says_why(run: Path, tmp_path: Path, change: dict[str, object], told: str):
    make_adapter(tmp_path / "adapter", run / "base", seed=3)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    parts = parts_of(tmp_path, tmp_path / "cache")

    with pytest.raises(CheckpointError, match=told):
        parts.locate(str(tmp_path / "adapter"), None)


def test_an_adapter_of_another_shape_than_its_base_is_refused(run: Path, tmp_path: Path):
    make_checkpoint(tmp_path / "wide", seed=1, hidden=128)

    with pytest.raises(CheckpointError, match="does not fit its base"):
        parts_of(tmp_path, tmp_path / "cache").locate(str(_copied(run, tmp_path)), str(tmp_path / "wide"))


def test_a_folder_with_a_model_and_an_adapter_is_refused(run: Path, tmp_path: Path):
    adapter = _copied(run, tmp_path)
    shutil.copyfile(run / "base" / "config.json", adapter / "config.json")

    with pytest.raises(CheckpointError, match="a model and an adapter"):
        parts_of(tmp_path, tmp_path / "cache").locate(str(adapter), str(run / "base"))


def _copied(run: Path, into: Path) -> Path:
    return Path(shutil.copytree(run / "checkpoint-10", into / "adapter"))


def test_a_pickled_adapter_is_refused(run: Path, tmp_path: Path):
    adapter = _copied(run, tmp_path)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")

    with pytest.raises(CheckpointError, match="safetensors"):
        parts_of(tmp_path, tmp_path / "cache").locate(str(adapter), str(run / "base"))


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(s3: str, run: Path, monkeypatch: pytest.MonkeyPatch):
    """A client of the bucket, into which the base was copied."""
    client = boto3.client(
        "s3",
        endpoint_url=s3,
        aws_access_key_id=KEYS["access_key_id"],
        aws_secret_access_key=KEYS["secret_access_key"],
        region_name=KEYS["region"],
    )
    for path in (run / "base").iterdir():
        client.upload_file(str(path), BUCKET, f"runs/base/{path.name}")
    for name, value in {"ENDPOINT_URL": s3, "ALLOW_HTTP": "true", **KEYS}.items():
        monkeypatch.setenv(f"AWS_{name.upper()}", value)
    return client


def test_a_checkpoint_in_a_bucket_is_fetched_once_and_again_when_it_changed(bucket, run: Path, tmp_path: Path):
    parts = parts_of(run, tmp_path, checkpoint_stores=[f"s3://{BUCKET}/runs"])
    url = f"s3://{BUCKET}/runs/base"

    here, first, again = parts.locate(str(run / "base"), None), parts.locate(url, None), parts.locate(url, None)
    config = json.loads((run / "base" / "config.json").read_text())
    bucket.put_object(Bucket=BUCKET, Key="runs/base/config.json", Body=json.dumps(config, indent=7).encode())
    changed = parts.locate(url, None)

    assert perplexity(first) == perplexity(here)
    assert first.folder == again.folder
    assert changed.folder != first.folder
    assert first.folder.is_relative_to(tmp_path)


def test_an_adapter_has_one_fingerprint_merged_or_beside_its_base(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    parts = parts_of(run, tmp_path)
    found = [parts.locate(str(run / name), None) for name in ("base", "checkpoint-10", "checkpoint-20")]
    monkeypatch.setattr("premem_worker.parts.computes_beside", lambda settings: True)
    beside = parts.locate(str(run / "checkpoint-10"), None)

    assert (found[1].adapter, beside.adapter) == (None, run / "checkpoint-10")
    assert beside.weights == found[1].weights
    assert len({one.weights for one in found}) == 3


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"s3://{BUCKET}/others/base", "--checkpoint-store"),
        (f"s3://{BUCKET}/runs-2/base", "--checkpoint-store"),
        (f"s3://{BUCKET}/runs/nothing", "holds no checkpoint"),
    ],
)
def test_what_lies_elsewhere_or_is_no_checkpoint_is_refused(bucket, run: Path, tmp_path: Path, url: str, told: str):
    parts = parts_of(run, tmp_path, checkpoint_stores=[f"s3://{BUCKET}/runs"])

    with pytest.raises(CheckpointError, match=told):
        parts.locate(url, None)


def test_a_file_that_is_written_anew_is_noticed_and_one_that_is_gone_is_not(run: Path, tmp_path: Path):
    make_checkpoint(tmp_path / "checkpoint-1", seed=1)
    located = parts_of(tmp_path, tmp_path / "cache").locate(str(tmp_path / "checkpoint-1"), None)
    weights = tmp_path / "checkpoint-1" / "model.safetensors"

    before = located.overwritten()
    (tmp_path / "checkpoint-1" / "generation_config.json").unlink(missing_ok=True)
    gone = located.overwritten()
    weights.write_bytes(weights.read_bytes())

    assert (before, gone, located.overwritten()) == (None, None, "model.safetensors")
