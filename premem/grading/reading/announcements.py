"""Where a text says that its answer comes now: "the answer is", "Antwort:", "答案是" and their like."""

from __future__ import annotations

import re
from collections import deque

MARK = "####"
"""Stands before the final answer of a trace of GSM8K."""

_MOST = 50
"""Announcements that are looked at, the last ones: a text may be nothing else."""
_LINK = (  # between the noun and the answer, by language
    r"is|are|was|would\s+be|should\s+be|must\s+be|will\s+be|equals|comes\s+to"
    r"|ist|lautet|wäre|est|es|sería|é|è|sarà|są|jest|brzmi|este|er|är|on|je|là|adalah|ialah|ni|ay|olur"
    r"|есть|это|будет|равен|равно|является|є|είναι|هي|هو|هى|है|हैं|হল|হলো"
)
_ANSWER = (
    r"antwort|respuesta|réponse|reponse|resposta|risposta|ответ(?:ом|а)?|відповідь|відповіддю|odpowied[źz]i?ą?|odpověď"
    r"|odpoveď|antwoord|svaret|svar|vastaus|răspuns(?:ul)?|válasz|απάντηση|cevap|cevabı|yanıt|đáp\s+án|câu\s+trả\s+lời"
    r"|jawaban(?:nya)?|jibu|sagot|ìdáhùn|idahun|الإجابة|الاجابة|الجواب|إجابة|جواب|پاسخ|תשובה|התשובה|उत्तर|जवाब|উত্তর|సమాధానం"
    r"|answer|ans"
)
_CHOICE = r"opción|option|opzione|opção|alternativa|вариант|seçenek|lựa\s+chọn|pilihan|choice"
_WEST = rf"""
    (?<![^\W_])(?:(?:{_ANSWER})s?|(?P<choice>{_CHOICE}))(?![^\W_])
    (?:[ \t]+(?:to|for|of|in)\ [^.:\n=]{{1,80}}?(?=[ ](?:is|are)\b|:))?
    (?:[ \t,]+[^\W\d_]++){{0,3}}?                     # Antwort auf die Frage lautet; respuesta correcta es
    ["'*_)\]}}\s]{{0,8}}?
    (?:(?<![^\W_])(?:{_LINK})(?![^\W_])|[:=]|—|(?<=\s)-(?=\s))
    (?P<open>[ \t]*:)?
"""
_EAST = r"""
    (?:答案|正解|答え|回答|解答|答复|答曰|答|정답|답변|답안|답|คำตอบ(?:ที่ถูกต้อง|สุดท้าย)?)
    (?:[^\n.:!?0-9A-Za-z]{0,8}?)["'*_\s]{0,8}?
    (?:是|为|為|等于|選|选|は|은|는|คือ|:|\])(?:[ \t]*:)?
"""
_POLISH = r"(?<![^\W_])odpowied(?:ź|zią)(?:[ \t]+[^\W\d_]++){0,2}?[ \t]+to(?![^\W_])"  # "answer to" is none in English
_HEADING = r"""
    (?:^|\n)[ \t]*(?:\#{1,6}[ \t]+|\*\*|__|\[)(?:the\ )?(?:final\ |correct\ )?(?:answer|答案|最终答案|antwort|respuesta|réponse)
    [ \t]*:?[ \t]*(?:\*\*|__|\])?[ \t]*:?[ \t]*(?=\n)
"""
_ANNOUNCED = re.compile(rf"(?:{_HEADING}|{_WEST}|{_EAST}|{_POLISH})", re.VERBOSE | re.IGNORECASE)
_NEGATED = re.compile(r"[ \t]*(?:not|never|neither|n't|nicht|pas|no|não|non|не|不)(?![^\W_])|\s*不", re.IGNORECASE)
_STEMS = (
    "ans",
    "antwo",
    "spuesta",
    "eponse",
    "sposta",
    "odpow",
    "svar",
    "vastaus",
    "cevap",
    "jawab",
    "jibu",
    "sagot",
    "idahun",
)
_CHOICE_STEMS = (*_STEMS, "option", "opzione", "alternativ", "pilihan", "choice")


def announced(text: str, *, choices: bool = False) -> list[tuple[int, bool]]:
    """Where the last announced answers begin, in their order, and whether a colon stands there rather than a verb.

    `choices`: "the correct option is" announces one too.
    """
    if text.isascii() and not _has_one_of(_CHOICE_STEMS if choices else _STEMS, text.lower()):
        return []
    return [
        (match.end(), match[0].rstrip().endswith((":", "=")))
        for match in deque(_ANNOUNCED.finditer(text), maxlen=_MOST)
        if (choices or match["choice"] is None) and not _NEGATED.match(text, match.end())
    ]


def _has_one_of(stems: tuple[str, ...], lowered: str) -> bool:
    for stem in stems:  # noqa: SIM110  # twice as fast as any(), and every unmarked answer comes here
        if stem in lowered:
            return True
    return False
