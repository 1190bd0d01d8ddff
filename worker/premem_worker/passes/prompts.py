"""How a task's rows become texts and tokens: in its template's own words, or as turns of the tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from premem.errors import CheckpointError, InputError
from premem.method.spans import Span, Tokenizer, closing_tokens, prompt_tokens, split
from premem.method.turns import Turns
from premem.records import Example
from premem.wire.tasks import LeasedTask
from premem_worker.checkpoints.chat import Chat, without_chat


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
    """The turns of a chat as its checkpoint writes them. Raises CheckpointError, which names that."""

    def __init__(self, task: LeasedTask, tokenizer: Tokenizer, chat: Chat) -> None:
        self._checkpoint = task.checkpoint
        self._tokenizer: Any = tokenizer
        self._chat = chat
        with self._named():
            self._turns = Turns(self._tokenizer, template=chat.template, system=task.template.system)
        self._check_end()

    def written(self, question: str) -> str:
        with self._named():
            return self._turns.prompt(question)

    def answered(self, question: str, answer: str) -> str:
        with self._named():
            return self._turns.answered(question, answer)

    def _check_end(self) -> None:
        """Sampled beyond the end of its turn, a model goes on with the next question."""
        behind = self._tokenizer.encode(self._turns.after, add_special_tokens=False)
        added = [token for token in behind if token in self._tokenizer.added_tokens_decoder]
        if added and not {*self._chat.ends, self._tokenizer.eos_token_id} & set(added):
            raise self._unfit(
                f"ends an answer with {self._tokenizer.decode(added[:1])!r}, where sampling does not stop: add its id, "
                f"{added[0]}, to eos_token_id in generation_config.json"
            )

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            raise self._unfit(str(error)) from error

    def _unfit(self, fault: str) -> CheckpointError:
        return CheckpointError(
            f"the chat template of checkpoint {self._checkpoint.name!r} ({self._checkpoint.path}) {fault}"
        )
