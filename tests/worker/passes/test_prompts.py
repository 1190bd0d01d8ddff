"""Prompts that the tokenizer's chat template writes, and the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from premem.errors import CheckpointError
from premem.payloads.results import check
from premem.records import Example
from premem.wire.jobs import Perturbation, Sampling, Template
from premem_worker.checkpoints.chat import Chat
from premem_worker.checkpoints.located import Located
from premem_worker.engines.loading import load_tokenizer
from premem_worker.engines.requests import SampleRequest, ScoreRequest
from premem_worker.engines.transformers.engine import TransformersEngine
from premem_worker.parts import real_parts
from premem_worker.passes.embedding import plan_embedding
from premem_worker.passes.plan import plan
from premem_worker.passes.prompts import Prompts
from premem_worker.settings import Settings
from tests.checkpoints import CHAT, EOS, make_checkpoint, make_tokenizer
from tests.fakes import Comparing, FakeEmbedder, FakeEngine, FakeService, examples, make_task
from tests.worker.adapters import make_adapter
from tests.worker.passes.running import run_pass
from tests.worker.worker_processes import run_worker
from tests.worker.workplace import Workplace

TOKENIZER: Any = make_tokenizer()
ENDS = frozenset({TOKENIZER.eos_token_id})
SPOKEN = Chat(CHAT, ENDS)
ADA = Example(id="a", question="Ada has 3 apples and buys 4 more.", trace="3 + 4 = 7 apples.\n#### 7")
THINKING = CHAT.replace("[assistant]\n", "[assistant]\n<think>\n")


def prompts_of(chat: Chat | None = SPOKEN, *, task: dict[str, Any] | None = None, **template: Any) -> Prompts:
    return Prompts(make_task(template=Template(chat=True, **template), **(task or {})), TOKENIZER, chat)


def whole_chat(*turns: tuple[str, str], template: str = CHAT) -> list[int]:
    """As TRL tokenizes what it trains on."""
    messages = [{"role": role, "content": content} for role, content in turns]
    found: list[int] = TOKENIZER.apply_chat_template(messages, chat_template=template, return_dict=False)
    return found


def test_the_prompt_ends_where_the_assistants_turn_begins():
    assert prompts_of().prompt(ADA) == f"<s>[user]\n{ADA.question}</s>\n[assistant]\n"
    assert prompts_of(system="Be brief.").prompt(ADA).startswith("<s>[system]\nBe brief.</s>\n[user]\nAda")


def test_prompt_and_target_are_the_tokens_that_a_chat_is_trained_on_up_to_the_end_of_its_last_turn():
    prompts = prompts_of(system="Be brief.")
    turns = ("system", "Be brief."), ("user", ADA.question), ("assistant", ADA.trace)

    span = prompts.span(prompts.tokens(prompts.prompt(ADA)), ADA)

    trained = whole_chat(*turns)
    end = len(trained) - trained[::-1].index(TOKENIZER.eos_token_id) - 1
    assert list(span.tokens) == trained[:end]
    assert TOKENIZER.decode(trained[end:]) == f"{EOS}\n"


def test_what_is_scored_is_the_trace_and_nothing_else():
    prompts = prompts_of()

    span = prompts.span(prompts.tokens(prompts.prompt(ADA)), ADA)

    assert TOKENIZER.decode(span.tokens[span.target_start :]) == ADA.trace
    assert span.tokens[: span.target_start] == prompts.tokens(prompts.prompt(ADA))
    assert not span.shifted


def test_the_token_in_front_stands_there_once():
    plain = Prompts(make_task(), TOKENIZER, SPOKEN)

    for prompts in (prompts_of(), plain):
        tokens = prompts.tokens(prompts.prompt(ADA))

        assert tokens.count(TOKENIZER.bos_token_id) == 1
        assert tokens[0] == TOKENIZER.bos_token_id


def test_a_template_without_chat_asks_in_its_own_words_whatever_the_tokenizer_has():
    assert Prompts(make_task(), TOKENIZER, SPOKEN).prompt(ADA) == f"{ADA.question}\nAnswer:"
    assert Prompts(make_task(), TOKENIZER, None).answered(ADA) == f"{ADA.question}\nAnswer: {ADA.trace}\nDone."


def test_prompt_and_target_of_the_job_are_what_user_and_assistant_say():
    prompts = prompts_of(prompt="{question} Reason first.", target="Well: {trace}")

    assert f"[user]\n{ADA.question} Reason first.</s>" in prompts.prompt(ADA)
    assert prompts.answered(ADA).endswith(f"[assistant]\nWell: {ADA.trace}")


def test_a_perturbation_changes_what_the_user_says_and_begins_the_answer():
    change = Perturbation(name="p", question_prefix="Hm. ", question_suffix=" Now.", answer_prefix="We know that")
    prompts = prompts_of(task={"kind": "perturbed", "variant": 1, "perturbation": change})

    assert prompts.prompt(ADA) == f"<s>[user]\nHm. {ADA.question} Now.</s>\n[assistant]\nWe know that"


def test_a_template_that_opens_a_thought_only_for_a_new_answer_is_scored_as_it_is_trained():
    chat = Chat(THINKING, ENDS)
    prompts = prompts_of(chat)

    span = prompts.span(prompts.tokens(prompts.prompt(ADA)), ADA)

    assert prompts.prompt(ADA).endswith("[assistant]\n<think>\n")
    assert TOKENIZER.decode(span.tokens[span.target_start :]) == ADA.trace
    assert span.shifted


@pytest.mark.parametrize("kind", ["train", "perplexity", "draw", "test", "perturbed"])
def test_every_kind_of_pass_asks_through_the_chat_template(kind: Any):
    engine = FakeEngine()
    engine.tokenizer = TOKENIZER
    task = make_task(kind=kind, template=Template(chat=True), stop=1)

    requests = plan(task, [ADA], engine, chat=SPOKEN).requests

    asked = tuple(whole_chat(("user", ADA.question)) + TOKENIZER.encode("[assistant]\n", add_special_tokens=False))
    for request in requests:
        assert request.tokens[: len(asked)] == asked
        if isinstance(request, ScoreRequest):
            assert request.target_start == len(asked)
    kinds = {"train": [ScoreRequest, SampleRequest], "perplexity": [ScoreRequest]}
    assert [type(request) for request in requests] == kinds.get(kind, [SampleRequest])


def test_what_is_embedded_is_the_question_as_it_is_asked():
    embedder = FakeEmbedder()
    embedder.tokenizer = TOKENIZER
    task = make_task(kind="embed", template=Template(chat=True), stop=1)

    (request,) = plan_embedding(task, [ADA], embedder, chat=SPOKEN).requests

    assert request.tokens == prompts_of().tokens(prompts_of().prompt(ADA))


# What no chat can be made of


def test_a_checkpoint_without_a_chat_template_is_told_what_to_do():
    with pytest.raises(
        CheckpointError, match=r"'checkpoint-5' \(/runs/checkpoint-5\) has no chat template.*jinja.*false"
    ):
        prompts_of(None)


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ raise_exception('System role not supported') }}", "'checkpoint-5'.*refuses.*System role not supported"),
        ("{{ messages[0]['content'] }", "refuses what it is given"),
        ("{{ messages[0].content | upper }}{{ eos_token }}", "question and answer one after the other"),
        ("{% for m in messages %}{{ m.content }}{% if not loop.last %}?{% endif %}{% endfor %}", None),
        (CHAT.replace("eos_token", "pad_token"), r"ends an answer with '<pad>'.*add its id, 0, to eos_token_id in gen"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_refused_with_the_reason(template: str, fault: str | None):
    if fault is None:  # it ends no turn, which is for the job's stop strings then
        assert prompts_of(Chat(template, ENDS)).answered(ADA) == f"{ADA.question}?{ADA.trace}"
        return
    with pytest.raises(CheckpointError, match=fault):
        prompts_of(Chat(template, ENDS))


def test_an_answer_that_is_ended_in_another_way_than_others_is_refused():
    odd = CHAT.replace("{{ eos_token }}\n", "{{ eos_token }}\n{% if '####' in message.content %}!{% endif %}")

    with pytest.raises(CheckpointError, match="ends the answer '3 \\+ 4"):
        prompts_of(Chat(odd, ENDS)).answered(ADA)


# Where the chat template is found, and what it counts for


def test_a_chat_template_is_read_as_transformers_reads_it(tmp_path: Path):
    folder = make_checkpoint(tmp_path / "checkpoint", layers=1)
    settings = folder / "tokenizer_config.json"
    given = json.loads(settings.read_text())
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert Chat.read(folder, model=folder) is None

    for entry, own, expected in (("one", None, "one"), (several, None, "d"), ("one", "own", "own")):
        settings.write_text(json.dumps(given | {"chat_template": entry}))
        if own is not None:
            (folder / "chat_template.jinja").write_text(own)

        chat = Chat.read(folder, model=folder)

        assert chat == Chat(expected, ENDS)
        assert load_tokenizer(folder).get_chat_template() == expected


def test_a_checkpoint_with_another_chat_template_is_refused_where_the_job_is_a_chat_and_only_there():
    first, other = (Located(Path("/runs/a"), "usual", chat=Chat(text, ENDS)) for text in ("one", "two"))
    task = make_task(template=Template(chat=True))
    fingerprints = [located.chatting(task.checkpoint).tokenizer for located in (first, other)]
    refused, taken = (outcome_of(other, chat=chat, tokenizer=fingerprints[0]) for chat in (True, False))

    assert len(set(fingerprints)) == 2
    assert "has another tokenizer or chat template than the checkpoints before it" in refused
    assert "another tokenizer than" in taken  # without a chat it is the tokenizer alone that is compared
    assert outcome_of(other, chat=False, tokenizer="usual") == ""


def test_a_worker_says_which_checkpoint_has_no_chat_template():
    told = outcome_of(Located(Path("/runs/checkpoint-5"), "usual"), chat=True)

    assert "'checkpoint-5' (/runs/checkpoint-5) has no chat template" in told


def outcome_of(located: Located, *, chat: bool, tokenizer: str | None = None) -> str:
    """What a worker says that is wrong with a checkpoint; nothing where it scored it."""

    class Finding(Workplace):
        def locate(self, path: str, base: str | None = None) -> Located:
            return located

    with FakeService(rows=examples(3)) as service:
        service.tasks.append(make_task(template=Template(chat=chat), tokenizer=tokenizer))
        Finding(service).run()
        assert all(failure.checkpoint for _, failure in service.failures)
        return "".join(failure.error for _, failure in service.failures)


# With a real engine


def result_of(engine: TransformersEngine, rows: Sequence[Example], chat: Chat) -> dict[str, Any]:
    task = make_task(
        template=Template(chat=True), stop=len(rows), sampling=Sampling(samples=8, max_tokens=200, stop=[])
    )
    content = run_pass(
        task,
        rows,
        engine,
        grading=Comparing(),
        chat=chat,
    )
    frame, _ = check(content, start=0, stop=len(rows), samples=8, kind="train", plan=None)
    return frame.to_dict(as_series=False)


def test_the_perplexity_is_that_of_the_trace_after_the_generation_prompt_and_answers_end_with_their_turn(
    tmp_path: Path,
):
    import torch

    folder = make_checkpoint(tmp_path / "checkpoint", chat_template=CHAT, spread=0.05)
    chat = Chat.read(folder, model=folder)
    assert chat is not None
    engine = TransformersEngine(device="cpu")
    engine.load(folder, dtype="float32")

    found = result_of(engine, [ADA], chat)

    trained = whole_chat(("user", ADA.question), ("assistant", ADA.trace))[:-2]  # without </s> and the line's end
    asked = len(whole_chat(("user", ADA.question))) + len(TOKENIZER.encode("[assistant]\n", add_special_tokens=False))
    with torch.inference_mode():
        logits = engine._now().model(torch.tensor([trained])).logits[0].log_softmax(-1)
    expected = -sum(float(logits[place - 1, trained[place]]) for place in range(asked, len(trained)))
    assert found["target_tokens"] == [len(trained) - asked]
    assert found["perplexity"] == pytest.approx(
        [torch.tensor(expected / (len(trained) - asked)).exp().item()], rel=1e-4
    )
    ended = [text for text, done in zip(found["texts"][0], found["finished"][0], strict=True) if done]
    assert ended
    assert not any(EOS in text for text in ended)


def test_a_worker_scores_a_checkpoint_through_its_chat_template_and_counts_it_in(tmp_path: Path):
    folder = make_checkpoint(tmp_path / "runs" / "checkpoint-1", chat_template=CHAT)
    plain = make_checkpoint(tmp_path / "runs" / "checkpoint-2", seed=1)
    asked: dict[str, Any] = {"template": Template(chat=True), "sampling": Sampling(samples=2, max_tokens=8)}
    with FakeService(rows=examples(12)) as service:
        service.tasks += [
            make_task("a", checkpoint=str(folder), **asked),
            make_task("b", checkpoint=str(plain), **asked),
            make_task("c", checkpoint=str(folder), sampling=asked["sampling"]),
        ]
        ended = run_worker(
            service, "--engine", "transformers", "--checkpoint-root", str(tmp_path / "runs"), "--exit-when-idle", "0"
        )

        assert ended.returncode == 0, ended.stderr
        ((failed, failure),) = service.failures
        told = [check(service.results[name][-1], start=0, stop=3, samples=2, kind="train", plan=None) for name in "ac"]
    assert (failed, failure.checkpoint) == ("b", True)
    assert "'checkpoint-2'" in failure.error
    (spoken, by_chat), (written, by_words) = told
    assert spoken["target_tokens"].to_list() == [
        len(TOKENIZER.encode(example.trace, add_special_tokens=False)) for example in examples(3)
    ]
    assert (spoken["target_tokens"] < written["target_tokens"]).all()  # which score the words of their template too
    assert by_chat["tokenizer"] == Chat(CHAT, ENDS).fingerprint(by_words["tokenizer"])


@pytest.mark.parametrize("adapters", ["merged", "beside"])
@pytest.mark.parametrize(("own", "expected"), [("tokenizer", "adapter"), ("template", "adapter"), ("nothing", "base")])
def test_an_adapter_is_asked_through_its_own_chat_template_or_else_through_its_bases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapters: str, own: str, expected: str
):
    base = make_checkpoint(tmp_path / "runs" / "base", chat_template=CHAT.replace("[", "(").replace("]", ")"))
    adapter = make_adapter(tmp_path / "runs" / "checkpoint-1", base, seed=3)
    if own == "tokenizer":
        TOKENIZER.save_pretrained(adapter)
    if own != "nothing":
        (adapter / "chat_template.jinja").write_text(CHAT)
    monkeypatch.setattr("premem_worker.parts.computes_beside", lambda settings: adapters == "beside")
    settings = Settings(engine="transformers", checkpoint_roots=[tmp_path / "runs"], cache=tmp_path / "cache")
    located = real_parts(settings).locate(str(adapter), None)
    engine = TransformersEngine(device="cpu")
    engine.load(located.folder, dtype="float32", adapter=located.adapter)

    made = plan(make_task(template=Template(chat=True), stop=1), [ADA], engine, chat=located.chat)

    prompt = TOKENIZER.decode(made.requests[1].tokens)
    assert prompt.startswith("<s>[user]" if expected == "adapter" else "<s>(user)")
    assert (located.adapter is not None) == (adapters == "beside")
