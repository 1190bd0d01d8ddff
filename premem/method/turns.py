"""Question and answer as turns of a chat, written by a tokenizer's own chat template."""

from __future__ import annotations

from typing import Any

from premem.errors import InputError

_ASKED, _ANSWERED = "premem asks", "premem answers"


class Turns:
    """One question and its answer as TRL trains on them: the prompt ends where the assistant's turn begins."""

    def __init__(self, tokenizer: Any, *, template: str | None = None, system: str = "") -> None:
        """`tokenizer` of Hugging Face; `template` in Jinja, absent: the tokenizer's own. Raises InputError for one that does not write a chat."""
        self._tokenizer = tokenizer
        self._template = template
        self._said_before = [{"role": "system", "content": system}] if system else []
        self.after = self._after_answer()
        """What the template writes behind an answer: it ends the turn, and is not scored."""

    def prompt(self, asked: str) -> str:
        """What is asked, up to where the answer begins. Raises InputError where the template refuses it."""
        return self._written(asked)

    def answered(self, asked: str, answer: str) -> str:
        """The prompt with its answer, up to the end of that."""
        whole = self._written(asked, answer)
        if not whole.endswith(self.after):
            raise InputError(f"ends the answer {answer[:100]!r} in another way than others")
        return whole.removesuffix(self.after)

    def _written(self, asked: str, answer: str | None = None) -> str:
        messages = [*self._said_before, {"role": "user", "content": asked}]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        own = {} if self._template is None else {"chat_template": self._template}
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=answer is None, **own
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise InputError(f"refuses what it is given: {error}") from error
        return text

    def _after_answer(self) -> str:
        prompt, whole = self._written(_ASKED), self._written(_ASKED, _ANSWERED)
        begun, asked, _ = prompt.partition(_ASKED)
        _, answered, after = whole.rpartition(_ANSWERED)
        # Beyond the question they may part: a template can open a thought for the answer that it leaves out of the past.
        if not asked or not answered or not whole.startswith(begun + asked):
            raise InputError("does not write question and answer one after the other")
        return after
