"""Real Trainers that train a tiny model, with the callback before a real service and a real worker."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

from premem import Client
from premem.local import LocalService
from premem.training.callback import PreMemorization
from premem.wire.jobs import Template
from tests.checkpoints import CHAT, make_checkpoint

ROWS = [{"question": f"{n} + 1?", "answer": f"It is {n + 1}. #### {n + 1}"} for n in range(6)]
SETTINGS: dict[str, Any] = {"sampling": {"samples": 2, "max_tokens": 4}, "memorized_below": 1.5, "look_seconds": 0.05}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return make_checkpoint(folder / "base", spread=0.02)


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with (
        LocalService(folder / "service", checkpoint_roots=[folder], workers=1, engine="transformers") as local,
        Client(local.url) as client,
    ):
        yield client


class Reporter(TrainerCallback):
    """What W&B would be told."""

    def __init__(self) -> None:
        self.told: list[dict[str, float]] = []

    def on_log(self, args, state, control, logs=None, **_):
        self.told.append(dict(logs))


class WaitForScores(TrainerCallback):
    """Training takes so short here that nothing would be scored before its end."""

    def __init__(self, client: Client, callback: PreMemorization, *, at_step: int) -> None:
        self.client, self.callback, self.at_step = client, callback, at_step

    def on_step_begin(self, args, state, control, **_):
        deadline = time.monotonic() + 60
        while state.global_step == self.at_step and time.monotonic() < deadline:
            following = self.callback.following
            if following.job and following._news:
                return
            time.sleep(0.02)


def arguments(kind: type[TrainingArguments], folder: Path, **changes: Any) -> Any:
    settings = {
        "output_dir": str(folder),
        "max_steps": 4,
        "save_steps": 2,
        "logging_steps": 1,
        "per_device_train_batch_size": 2,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "save_total_limit": 1,
    }
    return kind(**{**settings, **changes})


def tokens(tokenizer: Any) -> list[dict[str, list[int]]]:
    texts = [f"{row['question']}\nAnswer: {row['answer']}\nDone." for row in ROWS]
    encoded = [tokenizer(text, padding="max_length", max_length=64, truncation=True) for text in texts]
    return [{"input_ids": one["input_ids"], "labels": one["input_ids"]} for one in encoded]


def test_a_run_of_trainer_is_scored_while_it_trains_and_its_scores_are_in_its_log(client, base, folder):
    callback = PreMemorization(ROWS, service=client.base_url, **SETTINGS)
    out = folder / "trainer"
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=arguments(TrainingArguments, out),
        train_dataset=tokens(AutoTokenizer.from_pretrained(base)),
        processing_class=AutoTokenizer.from_pretrained(base),
        callbacks=[callback],
    )
    reporter = Reporter()
    trainer.callback_handler.callbacks.insert(0, reporter)  # where the Trainer puts W&B
    trainer.add_callback(WaitForScores(client, callback, at_step=3))

    trainer.train()
    job = client.wait(callback.following.job, timeout=60)

    assert job.state == "completed"
    assert [checkpoint.name for checkpoint in job.checkpoints] == ["checkpoint-2", "checkpoint-4"]
    assert job.learning_rate == pytest.approx(5e-5)
    [first] = [line for line in reporter.told if line.get("premem/step") == 2]
    scored = client.report(job.id).checkpoints[0]
    assert first["premem/train_accuracy"] == scored.train_accuracy
    assert first["premem/pre_memorization_accuracy"] == scored.pre_memorization_accuracy
    assert any(line.get("premem/step") == 2 for line in trainer.state.log_history)
    # save_total_limit deleted it, and it was scored all the same; what held it is gone, too.
    assert not (out / "checkpoint-2").exists()
    assert (out / "checkpoint-4").exists()
    callback.following._thread.join(10)
    assert list((out / "premem-held").iterdir()) == []


class Crash(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 3:
            raise KeyboardInterrupt


def test_a_run_of_sft_trainer_that_crashes_and_is_resumed_is_one_job_over_copies(client, base, folder):
    from datasets import Dataset as Rows
    from trl import SFTConfig, SFTTrainer

    callbacks = []

    def train(*others: TrainerCallback, resumed: bool) -> None:
        callbacks.append(PreMemorization(ROWS, service=client.base_url, copy_to=folder / "copies", **SETTINGS))
        config = arguments(SFTConfig, folder / "sft", max_length=64)
        rows = [{"prompt": f"{row['question']}\nAnswer:", "completion": f" {row['answer']}\nDone."} for row in ROWS]
        trainer = SFTTrainer(
            model=str(base), args=config, train_dataset=Rows.from_list(rows), callbacks=[callbacks[-1], *others]
        )
        trainer.train(resume_from_checkpoint=resumed)

    with pytest.raises(KeyboardInterrupt):
        train(Crash(), resumed=False)
    assert callbacks[0].finish(20)
    train(resumed=True)
    job = client.wait(callbacks[1].following.job, timeout=60)

    assert job.state == "completed"
    assert job.id == callbacks[0].following.job
    assert json.loads((folder / "sft" / "premem.json").read_text()) == {"job": job.id}
    assert [checkpoint.path for checkpoint in job.checkpoints] == [
        str(folder / "copies" / "sft" / name) for name in ("checkpoint-2", "checkpoint-4")
    ]


def test_one_line_in_sft_trainer_scores_the_chat_that_is_trained_on(client, base, folder, caplog):
    from datasets import Dataset as Rows
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = CHAT
    said = [
        [
            {"role": "system", "content": "Count."},
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": row["answer"]},
        ]
        for row in ROWS
    ]
    caplog.set_level(logging.INFO, "premem")
    callback = PreMemorization(ROWS, service=client.base_url, **SETTINGS)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=arguments(SFTConfig, folder / "chat", max_length=128, max_steps=2),
        train_dataset=Rows.from_list([{"messages": one} for one in said]),
        processing_class=tokenizer,
        callbacks=[callback],
    )

    trainer.train()
    job = client.wait(callback.following.job, timeout=60)

    assert job.state == "completed"
    assert job.template == Template(chat=True, system="Count.")
    lines = [line for line in caplog.messages if line.startswith("premem: ")]
    assert lines == ["premem: as this run's rows are written, template={'chat': True, 'system': 'Count.'}"]
