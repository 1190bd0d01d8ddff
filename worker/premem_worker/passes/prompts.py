"""How a task's rows become texts and tokens: in its template's own words, or as turns of the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from premem.errors import CheckpointError
from premem.method.spans import Span, Tokenizer, closing_tokens, prompt_tokens, split
from premem.records import Example
from premem.wire.tasks import LeasedTask
from premem_worker.checkpoints.chat import Chat, without_chat

_ASKED, _ANSWERED = "premem asks", "premem answers"


class Prompts:
    """A task's prompts and targets, in the way in which its checkpoint was trained on them."""

    def __init__(self, task: LeasedTask, tokenizer: Tokenizer, chat: Chat | None) -> None:
        """Raises CheckpointError where the task asks for a chat and the checkpoint's template does not give one."""
        self._task = task
        self._tokenizer = tokenizer
        self._turns: _Turns | None = None
        self._closing = 0
        if not task.template.chat:
            self._closing = closing_tokens(tokenizer)
        elif chat is None:
            raise without_chat(task.checkpoint)
        else:
            self._turns = _Turns(task, tokenizer, chat)

    def prompt(self, example: Example) -> str:
        """What is asked, up to where the answer begins."""
        template, change = self._task.template, self._task.perturbation
        question, begun = example.question, ""
        if change is not None:
            question, begun = change.question_prefix + question + change.question_suffix, change.answer_prefix
        prompt = template.render_prompt(question)
        return (prompt if self._turns is None else self._turns.written(prompt)) + begun

    def answered(self, example: Example) -> str:
        """What was trained on: the prompt with its target, up to the end of that."""
        template = self._task.template
        prompt, answer = template.render_prompt(example.question), template.render_target(example.trace)
        return prompt + answer if self._turns is None else self._turns.answered(prompt, answer)

    def tokens(self, text: str) -> tuple[int, ...]:
        """A chat template writes the tokens in front itself: with those of the tokenizer there would be two."""
        return prompt_tokens(self._tokenizer, text, closing=self._closing, special=self._turns is None)

    def span(self, prompt: Sequence[int], example: Example) -> Span:
        """`prompt`: the tokens of the example's prompt."""
        return split(prompt, self.tokens(self.answered(example)))


class _Turns:
    """The turns of a chat as TRL trains on them: the prompt ends where the assistant's turn begins."""

    def __init__(self, task: LeasedTask, tokenizer: Tokenizer, chat: Chat) -> None:
        self._checkpoint = task.checkpoint
        self._said_before = [{"role": "system", "content": task.template.system}] if task.template.system else []
        self._tokenizer: Any = tokenizer
        self._chat = chat
        self._after = self._after_answer()
        """What the template writes behind an answer: it ends the turn, and is not scored."""
        self._check_end()

    def written(self, question: str, answer: str | None = None) -> str:
        messages = [*self._said_before, {"role": "user", "content": question}]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, chat_template=self._chat.template, tokenize=False, add_generation_prompt=answer is None
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise self._unfit(f"refuses what it is given: {error}") from error
        return text

    def answered(self, question: str, answer: str) -> str:
        whole = self.written(question, answer)
        if not whole.endswith(self._after):
            raise self._unfit(f"ends the answer {answer[:100]!r} in another way than others")
        return whole.removesuffix(self._after)

    def _after_answer(self) -> str:
        prompt, whole = self.written(_ASKED), self.written(_ASKED, _ANSWERED)
        begun, asked, _ = prompt.partition(_ASKED)
        _, answered, after = whole.rpartition(_ANSWERED)
        # Beyond the question they may part: a template can open a thought for the answer that it leaves out of the past.
        if not asked or not answered or not whole.startswith(begun + asked):
            raise self._unfit("does not write question and answer one after the other")
        return after

    def _check_end(self) -> None:
        """Sampled beyond the end of its turn, a model goes on with the next question."""
        behind = self._tokenizer.encode(self._after, add_special_tokens=False)
        added = [token for token in behind if token in self._tokenizer.added_tokens_decoder]
        if added and not {*self._chat.ends, self._tokenizer.eos_token_id} & set(added):
            raise self._unfit(
                f"ends an answer with {self._tokenizer.decode(added[:1])!r}, where sampling does not stop: add its id, "
                f"{added[0]}, to eos_token_id in generation_config.json"
            )

    def _unfit(self, fault: str) -> CheckpointError:
        return CheckpointError(
            f"the chat template of checkpoint {self._checkpoint.name!r} ({self._checkpoint.path}) {fault}"
        )
