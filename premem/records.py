"""Examples, answers, grades, and what a checkpoint did with an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["right", "wrong", "no_answer", "timeout"]
"""`timeout` means that the grader ran out of time, which is not the same as `wrong`."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a finetuning data set."""

    id: str
    question: str
    trace: str
    """The reference reasoning that the model is trained on."""
    final_answer: str | None = None
    """None: the grader finds the final answer in the trace."""

    @property
    def reference(self) -> str:
        """The text that answers are graded against."""
        return self.trace if self.final_answer is None else self.final_answer


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict of a grader on one answer."""

    verdict: Verdict
    extracted: str | None = None
    """The final answer that was found in the text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer."""

    text: str
    grade: Grade
    tokens: int
    finished: bool
    """False: cut off at the token limit before a stop string."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one checkpoint did with one training example."""

    correct: int
    sampled: int
    perplexity: float
    """Of the target's tokens given the prompt."""

    @property
    def accuracy(self) -> float:
        return self.correct / self.sampled
