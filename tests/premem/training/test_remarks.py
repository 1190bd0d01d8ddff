"""What keeps checkpoints from being scored, said before it happens."""

from __future__ import annotations

from types import SimpleNamespace

from premem.training.remarks import NO_TOKENIZER, at_the_beginning, expected_before, of_saved


def arguments(strategy="steps"):
    return SimpleNamespace(save_strategy=strategy)


def run(**parts):
    """With what a Trainer gives its callbacks."""
    return {"processing_class": object(), "model": SimpleNamespace(), "train_dataloader": None, **parts}


def test_a_run_that_saves_what_it_needs_is_not_remarked_on():
    assert at_the_beginning(arguments(), run()) == []


def test_a_run_that_saves_nothing_is_told():
    assert "save_strategy='no'" in at_the_beginning(arguments("no"), run())[0]


def test_a_trainer_without_a_tokenizer_is_told_unless_another_one_is_saved():
    own = SimpleNamespace(collate_fn=SimpleNamespace(data_collator=SimpleNamespace(tokenizer=object())))

    assert at_the_beginning(arguments(), run(processing_class=None)) == [NO_TOKENIZER]
    assert at_the_beginning(arguments(), run(processing_class=None, train_dataloader=own)) == []
    assert at_the_beginning(arguments(), run(processing_class=None, model=SimpleNamespace(peft_config={}))) == []


def test_a_saved_folder_that_no_worker_can_load_is_told(tmp_path):
    (tmp_path / "pytorch_model_fsdp_0").mkdir()

    no_tokenizer, no_weights = of_saved(tmp_path)

    assert no_tokenizer == NO_TOKENIZER
    assert "FULL_STATE_DICT" in no_weights
    for name in ("tokenizer.json", "model-00001-of-00002.safetensors"):
        (tmp_path / name).touch()
    assert of_saved(tmp_path) == []


def test_an_adapter_has_the_tokenizer_of_its_base(tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).touch()

    assert of_saved(tmp_path) == []


def test_a_resumed_run_saved_a_checkpoint_every_so_many_steps():
    state = SimpleNamespace(global_step=6, save_steps=2)

    assert expected_before(arguments(), state) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert expected_before(arguments("epoch"), state) == []
