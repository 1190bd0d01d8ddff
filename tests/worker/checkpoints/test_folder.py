"""Folders that are checkpoints, and the many that are not."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from premem.errors import CheckpointError, InputError
from premem_worker.checkpoints import folder as checkpoints
from premem_worker.checkpoints import headers
from premem_worker.checkpoints.folder import (
    context_length,
    end_tokens,
    inspect,
    model_family,
    named_dtype,
    resolve,
    tokenizer_fingerprint,
)
from premem_worker.checkpoints.headers import Tensor
from tests.checkpoints import make_checkpoint, make_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, never changed."""
    folder = tmp_path_factory.mktemp("made")
    make_checkpoint(folder / "whole", seed=1)
    make_checkpoint(folder / "sharded", seed=1, shard_size="200KB")
    return folder


@pytest.fixture
def whole(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "whole", tmp_path / "whole")
    return tmp_path / "whole"


@pytest.fixture
def sharded(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "sharded", tmp_path / "sharded")
    return tmp_path / "sharded"


def test_checkpoints_of_one_run_have_one_signature(whole: Path, tmp_path: Path) -> None:
    later = make_checkpoint(tmp_path / "later", seed=2)

    signature = inspect(whole)

    assert signature == inspect(later)
    assert (signature.architecture, signature.tied, signature.dtype) == ("LlamaForCausalLM", True, "float32")
    assert ("model.norm.weight", "F32", (64,)) in [(t.name, t.dtype, t.shape) for t in signature.tensors]


def test_a_family_is_the_architecture_and_the_number_of_parameters(whole: Path, tmp_path: Path) -> None:
    larger = make_checkpoint(tmp_path / "larger", seed=1, hidden=128)
    tied, untied = inspect(whole), Tensor("lm_head.weight", "F32", (609, 64))
    saved_twice = replace(tied, tensors=(*tied.tensors, untied))
    parameters = sum(math.prod(tensor.shape) for tensor in tied.tensors)

    assert model_family(tied) == f"LlamaForCausalLM {parameters / 1000:.3g}k"
    assert model_family(saved_twice) == model_family(tied)
    assert model_family(inspect(larger)) != model_family(tied)


@pytest.mark.parametrize(
    "other",
    [
        {"hidden": 128},
        {"layers": 1},
        {"tied": False},
        {"dtype": "bfloat16"},
        {"rope_theta": 500_000.0},
        {"context": 512},
    ],
)
def test_what_makes_another_model_makes_another_signature(whole: Path, tmp_path: Path, other: dict[str, Any]) -> None:
    if "rope_theta" in other:
        other = {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}

    assert inspect(make_checkpoint(tmp_path / "other", seed=1, **other)) != inspect(whole)


def test_another_tokenizer_makes_another_signature(whole: Path) -> None:
    before = inspect(whole)
    change_json(whole / "tokenizer.json", lambda t: t["model"]["merges"].pop())

    assert inspect(whole) != before


def test_a_signature_does_not_depend_on_how_the_config_was_written(whole: Path) -> None:
    before = inspect(whole)
    config = json.loads((whole / "config.json").read_text())
    changed = {"_name_or_path": "elsewhere", "transformers_version": "4.57.0", "use_cache": False}
    (whole / "config.json").write_text(json.dumps(dict(reversed((config | changed).items()))))

    assert inspect(whole) == before


def test_shards_hold_the_same_tensors_as_one_file(whole: Path, sharded: Path) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert inspect(sharded).tensors == inspect(whole).tensors


def test_a_dtype_is_always_named(whole: Path, tmp_path: Path) -> None:
    half = make_checkpoint(tmp_path / "half", dtype="bfloat16")

    assert named_dtype(inspect(whole), None) == "float32"
    assert named_dtype(inspect(half), None) == "bfloat16"
    assert named_dtype(inspect(half), "float32") == "float32"
    with pytest.raises(InputError, match="unknown dtype 'auto'"):
        named_dtype(inspect(whole), "auto")


def test_the_context_is_what_model_and_tokenizer_both_take(whole: Path) -> None:
    assert context_length(whole) == 1024
    change_json(whole / "tokenizer_config.json", lambda t: t.update(model_max_length=512))
    assert context_length(whole) == 512
    change_json(whole / "tokenizer_config.json", lambda t: t.update(model_max_length=10**30))
    assert context_length(whole) == 1024


def test_all_end_tokens_count(whole: Path) -> None:
    change_json(whole / "generation_config.json", lambda c: c.update(eos_token_id=[5, 7]))

    assert end_tokens(whole, tokenizer_eos=9) == {2, 5, 7, 9}


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def config_of_a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def no_architecture(folder: Path) -> None:
    change_json(folder / "config.json", lambda config: config.pop("architectures"))


def own_code(folder: Path) -> None:
    change_json(folder / "config.json", lambda config: config.update(auto_map={"AutoModel": "modeling.Model"}))


def own_tokenizer_code(folder: Path) -> None:
    change_json(
        folder / "tokenizer_config.json", lambda config: config.update(auto_map={"AutoTokenizer": ["t.T", None]})
    )


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "training_args.bin").write_bytes(b"")


def pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def adapter_beside_a_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def stray_safetensors(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")


def truncated(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1000])


def truncated_in_its_header(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:100])


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def weights_of_noise(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((20).to_bytes(8, "little") + b"noise" * 1000)


def weights_with_a_tail(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"tail")


def weights_of_another_shape_than_they_say(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"shape":[64]', b'"shape":[65]', 1))


def git_lfs_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def a_link_to_nothing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("gone.safetensors")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (no_folder, "is no folder"),
        (no_config, "has no config.json"),
        (broken_config, "is no JSON"),
        (config_of_a_list, "must hold a JSON object"),
        (no_architecture, "names no architecture"),
        (own_code, r"code of its own \(auto_map\)"),
        (own_tokenizer_code, r"tokenizer_config.json names code of its own"),
        (no_weights, "has no weights"),
        (pickled_weights, "has only pytorch_model.bin: premem loads safetensors only"),
        (adapter, "holds a LoRA adapter, which is no model"),
        (adapter_beside_a_model, "holds a LoRA adapter, which is no model"),
        (stray_safetensors, "has consolidated.safetensors"),
        (truncated, "is truncated: it holds"),
        (truncated_in_its_header, "is truncated or no safetensors"),
        (empty_weights, "is truncated or no safetensors"),
        (weights_of_noise, "its header is no JSON"),
        (weights_with_a_tail, "4 bytes follow its last tensor"),
        (weights_of_another_shape_than_they_say, "does not lie where its shape says"),
        (git_lfs_pointer, "is truncated or no safetensors"),
        (no_tokenizer, "has no tokenizer"),
        (a_link_to_nothing, "is missing: it is a link to nothing"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_folder_that_cannot_be_loaded_is_refused_with_its_name_and_the_reason(
    whole: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(whole)

    with pytest.raises(CheckpointError, match=reason) as refused:
        inspect(whole)
    assert str(whole) in str(refused.value)


def a_missing_shard(folder: Path) -> None:
    sorted(folder.glob("*.safetensors"))[1].unlink()


def a_tensor_elsewhere(folder: Path) -> None:
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    change_json(
        folder / headers.INDEX,
        lambda index: index["weight_map"].update(dict.fromkeys(index["weight_map"], shards[0])),
    )


def a_shard_outside(folder: Path) -> None:
    change_json(folder / headers.INDEX, lambda i: i["weight_map"].update({"x": "../../other/model.safetensors"}))


def a_stale_single_file(folder: Path) -> None:
    shutil.copy(sorted(folder.glob("*.safetensors"))[0], folder / "model.safetensors")


def an_index_of_nothing(folder: Path) -> None:
    (folder / headers.INDEX).write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (a_missing_shard, r"model-00002-of-.* is missing: model\.safetensors\.index\.json names it"),
        (a_tensor_elsewhere, "which does not hold it"),
        (a_shard_outside, "no safetensors file of its folder"),
        (a_stale_single_file, "has both model.safetensors and"),
        (an_index_of_nothing, "has no weight_map"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_index_that_does_not_fit_its_shards_is_refused(
    sharded: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(sharded)

    with pytest.raises(CheckpointError, match=reason):
        inspect(sharded)


def test_a_fingerprint_does_not_depend_on_how_the_tokenizer_was_written(whole: Path) -> None:
    before = tokenizer_fingerprint(whole)
    tokenizer = json.loads((whole / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = [" ".join(merge) for merge in tokenizer["model"]["merges"]]
    tokenizer["model"]["vocab"] = dict(reversed(tokenizer["model"]["vocab"].items()))
    tokenizer["truncation"] = {"max_length": 5}
    (whole / "tokenizer.json").write_text(json.dumps(tokenizer))
    change_json(whole / "tokenizer_config.json", lambda t: t.update(padding_side="left", add_bos_token=None))

    assert tokenizer_fingerprint(whole) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t["model"]["merges"].reverse(),
        lambda t: t["model"]["vocab"].update(extra=400),
        lambda t: t["added_tokens"].append({**t["added_tokens"][0], "id": 401, "content": "<new>"}),
        lambda t: t.update(post_processor=None),
        lambda t: t.update(normalizer={"type": "Lowercase"}),
    ],
    ids=["merges", "vocabulary", "added token", "no <s> in front", "normalizer"],
)
def test_a_fingerprint_tells_tokenizers_apart(whole: Path, change: Callable[[Any], None]) -> None:
    before = tokenizer_fingerprint(whole)
    change_json(whole / "tokenizer.json", change)

    assert tokenizer_fingerprint(whole) != before


def test_a_fingerprint_tells_special_settings_apart(whole: Path) -> None:
    before = tokenizer_fingerprint(whole)
    change_json(whole / "tokenizer_config.json", lambda t: t.update(add_eos_token=True))

    assert tokenizer_fingerprint(whole) != before


def test_a_sentencepiece_model_is_a_tokenizer_too(whole: Path) -> None:
    (whole / "tokenizer.json").unlink()
    (whole / "tokenizer.model").write_bytes(b"pieces")
    before = tokenizer_fingerprint(whole)
    (whole / "tokenizer.model").write_bytes(b"other pieces")

    assert tokenizer_fingerprint(whole) != before


def test_a_saved_and_loaded_tokenizer_keeps_its_fingerprint(whole: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(whole).save_pretrained(tmp_path / "again")

    assert tokenizer_fingerprint(tmp_path / "again") == tokenizer_fingerprint(whole)
    assert make_tokenizer().encode("Ada") == AutoTokenizer.from_pretrained(tmp_path / "again").encode("Ada")


def test_paths_under_a_root_are_found_absolute_and_relative(tmp_path: Path) -> None:
    (tmp_path / "one" / "run").mkdir(parents=True)
    (tmp_path / "two" / "other" / "checkpoint-5").mkdir(parents=True)
    roots = [tmp_path / "one", tmp_path / "two"]

    assert resolve(str(tmp_path / "one" / "run"), roots=roots, hub=None) == tmp_path / "one" / "run"
    assert resolve("other/checkpoint-5", roots=roots, hub=None) == tmp_path / "two" / "other" / "checkpoint-5"
    assert resolve("other/../other/checkpoint-5", roots=roots, hub=None) == tmp_path / "two" / "other" / "checkpoint-5"


def never(repo: str, revision: str | None) -> Path:
    raise AssertionError(f"{repo} at {revision} is no id of the hub")


def test_no_path_leads_out_of_the_roots(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "circle").symlink_to(root / "circle")

    for path in (str(outside), "../outside", f"{root}/../outside", "link", str(root / "link"), "/", "/nowhere/at/all"):
        with pytest.raises(CheckpointError, match="lies outside of the folders"):
            resolve(path, roots=[root], hub=never)
    for path in ("circle", "a\0b", "x" * 5000):
        with pytest.raises(CheckpointError):
            resolve(path, roots=[root], hub=None)


def test_a_link_that_stays_under_the_roots_is_followed(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "last").symlink_to("checkpoint-7")

    assert resolve("last", roots=[tmp_path], hub=None) == tmp_path / "checkpoint-7"


def test_a_path_that_is_no_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()

    with pytest.raises(CheckpointError, match="is a file: name the checkpoint's folder"):
        resolve("model.safetensors", roots=[tmp_path], hub=None)
    with pytest.raises(CheckpointError, match="no such folder under"):
        resolve("checkpoint-9", roots=[tmp_path], hub=None)
    with pytest.raises(CheckpointError, match="given no folder"):
        resolve("checkpoint-9", roots=[], hub=None)


def test_hub_ids_are_only_followed_where_that_is_allowed(tmp_path: Path) -> None:
    asked: list[tuple[str, str | None]] = []

    def hub(repo: str, revision: str | None) -> Path:
        asked.append((repo, revision))
        return tmp_path

    with pytest.raises(CheckpointError, match="start the worker with --hub"):
        resolve("org/name", roots=[tmp_path], hub=None)
    assert asked == []
    assert resolve("org/name", roots=[tmp_path], hub=hub) == tmp_path
    assert resolve("org/name@step-7", roots=[], hub=hub) == tmp_path
    assert asked == [("org/name", None), ("org/name", "step-7")]


def test_a_stamp_changes_with_the_files(whole: Path) -> None:
    before = checkpoints.stamp(whole)
    (whole / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes())

    assert checkpoints.stamp(whole) != before


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
