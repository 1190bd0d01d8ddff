"""The string equality of the paper's code, for reproduction (Kang et al. 2024, arXiv 2411.07681).

Written anew from the behaviour of the authors' evaluation scripts. What they do, on GSM8K:

- The final answer of a sampled text follows its last "The answer is" (and the two characters after that, as in
  ": "), without colons, dollar signs, one trailing full stop and a `\\boxed{}` around it. Where that phrase is absent,
  it is everything after the *first* `#### `, to the end of the text.
- Where both are absent, it is the text from its fifth character on. So a text without a final answer is compared,
  and is wrong: the recorded GSM8K runs hold answer types 0 (right) and 1 (wrong), and no 2 (no answer).
- The reference is everything after its first `#### `. Commas are dropped on both sides.

On MATH it is what the last `\\boxed{}` holds, for an answer else what follows the last of a list of phrases such as
"answer is"; where there is neither, answer type 2: no_answer.

Both sides are then rewritten by the rules that came with the MATH data set (Hendrycks et al. 2021: spaces, units
after `\\text{ `, `\\frac12`, `3/4`, degrees, percent, a short left side of an equation) and compared as strings.
"72." is not "72", and neither is "$72".

Two things differ from the authors' code, both for references that it was never given: one without a mark is taken
for a final answer itself, and one without a final answer makes every answer `no_answer`.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from premem.grading.verdicts import given
from premem.records import Grade

_MARK = "#### "
_PHRASE = "The answer is"
_MATH_PHRASES = ("FINAL ANSWER", "answer is", "ANSWER", "Final Answer", "is:", "Answer", "answer")
_INTEGERS = re.compile(r"(0|-?[1-9][0-9]*)/(0|-?[1-9][0-9]*)")


class Authors(BaseModel, frozen=True, extra="forbid", strict=True):
    """Grades as the paper's code does."""

    name: ClassVar[str] = "authors"
    version: ClassVar[str] = "1"
    unbounded: ClassVar[bool] = False

    task: Literal["gsm8k", "math"] = Field("gsm8k", description="Which of the authors' scripts to follow.")

    def grade(self, reference: str, answer: str) -> Grade:
        if self.task == "gsm8k":
            expected = _gsm8k_reference(reference)
            found, compared = _gsm8k_answer(answer)
        else:
            expected = _math_reference(reference)
            found = compared = _math_answer(answer)
        if not expected or compared is None:
            return given("no_answer", found)
        return given("right" if _equivalent(expected, compared) else "wrong", found)


def _gsm8k_reference(text: str) -> str:
    _, mark, tail = text.partition(_MARK)
    return (tail if mark else text.strip()).replace(",", "")


def _gsm8k_answer(text: str) -> tuple[str | None, str | None]:
    """The final answer, None where there is no mark of one; and what is compared."""
    before, phrase, _ = text.rpartition(_PHRASE)
    if phrase:
        found = text[len(before) + len(_PHRASE) + len(": ") :].replace(":", "").replace("$", "").strip()
        found = _unboxed(found.removesuffix(".")).replace(",", "")
        return found, found
    _, mark, tail = text.partition(_MARK)
    if mark:
        found = tail.replace(",", "")
        return found, found
    return None, text[4:].replace(",", "")


def _math_reference(text: str) -> str:
    return _last_boxed(text) or ("" if "\\boxed" in text or "\n" in text else text.strip())


def _math_answer(text: str) -> str | None:
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed
    for phrase in _MATH_PHRASES:
        _, found, tail = text.rpartition(phrase)
        if found:
            tail = tail.replace(":", "").replace("$", "").replace("\n", "").strip()
            return _unboxed(tail.removesuffix("."))
    return None


def _unboxed(text: str) -> str:
    return text[len("\\boxed{") : -1] if text.startswith("\\boxed{") and text.endswith("}") else text


def _last_boxed(text: str) -> str | None:
    """Only the very last one counts, and an escaped brace counts as a brace."""
    start = text.rfind("\\boxed")
    if not text.startswith("\\boxed{", start) or start < 0:
        return None
    depth = 0
    for brace in re.finditer("[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[start + len("\\boxed{") : start + brace.start()]
    return None


def _equivalent(expected: str, found: str) -> bool:
    rewritten = _rewritten(expected), _rewritten(found)
    if None in rewritten:
        return expected == found
    return rewritten[0] == rewritten[1]


def _rewritten(text: str) -> str | None:
    """By the rules of the MATH data set, in their order. None where the original gives up on one of them."""
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac").replace("\\left", "").replace("\\right", "")
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "")
    quantity, _, units = text.partition("\\text{ ")
    if "\\text{ " in units:
        return None
    text = quantity.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    if text.endswith("\\sqrt") or "\\sqrt\\sqrt" in text:
        return None
    text = re.sub(r"\\sqrt([^{])", r"\\sqrt{\1}", text).replace(" ", "")
    text = _braced_fractions(text)
    if text == "0.5":
        return "\\frac{1}{2}"
    ratio = _INTEGERS.fullmatch(text)
    return f"\\frac{{{ratio[1]}}}{{{ratio[2]}}}" if ratio else text


def _braced_fractions(text: str) -> str:
    r"""\frac12 and \frac1{2} become \frac{1}{2}."""
    first, *others = text.split("\\frac")
    pieces = [first]
    for other in others:
        if other.startswith("{"):
            pieces.append(other)
        elif len(other) < 2:
            return text
        else:
            over, under = other[0], other[1:] if other[1] == "{" else f"{{{other[1]}}}{other[2:]}"
            pieces.append(f"{{{over}}}{under}")
    return "\\frac".join(pieces)
