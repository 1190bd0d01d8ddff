"""Where the letters of options stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from premem.grading.reading.searching import last_match

_DRESS = r"(?:[\s*_(\[{$\"'“”「『«<`:]|\\\(|\\\[|\\(?:text|textbf|mathrm|mathbf|boxed)\s?\{)"
_OPTION = (
    r"option|choice|letter|answer|answers|opción|opcion|alternativa|option|l'option|opzione|opção|вариант|seçenek|pilihan"
    r"|lựa\s+chọn|Option|选项|選項|선택지|选|項|项"
)
_LEAD_WORDS = (
    rf"(?:{_OPTION}|therefore|thus|then|so|clearly|definitely|probably|likely|most\s+likely|simply|just|actually|indeed|surely"
    r"|obviously|still|hence|given\s+by|I\s+think|I\s+believe|also|either|both|la|el|le|il|lo|die|der|das|de|het|a|o|as|los"
    r"|é|è|es|est|ist|är|er|to|buchstabe|lettre|letra|lettera|буква)"
)
_JOIN = r"(?:\s*(?:,|/|&)\s*(?:and\s+|or\s+)?|\s+(?:and|or|und|oder|et|ou|y|o|e)\s+|\s*[和或与と]\s*)"
_GOES_ON = r"(?:because|since|as|for|is|was|and|or|but|which|due|given|not|rather|with|in\s+this|by|if|when|will|would|ist|est|es)"
_GOES_ON_BEHIND_I = r"(?:because|since|as|for|is|and|or|but|which|due|given|not|rather|in\s+this|by|if|when)"
_WRONG = (
    r"\s*(?:\\\)|[\"'*])?\s*(?:is|are|was|were|would\s+be|seems?|looks?|can(?:not|'t)|does|doesn't|isn't|ignores?|has|have)\s+"
    r"(?:too|not|n't|wrong|incorrect|false|impossible|irrelevant|out|also|clearly\s+(?:wrong|false)|be|only|never|no)\b"
)
_RIGHT = (
    r"(?:correct|right|best|true|answer|accurate|appropriate|valid|one|only\s+(?:one|option|choice|answer)|it\b|most\b"
    r"|richtig|korrekt|correcta?|correcto|corretta|juste|bonne|juist|riktig|верн|правильн|poprawna|doğru)"
)
_CHOOSING = (
    r"(?:choose|chose|choosing|pick|picked|select|selected|selecting|go(?:ing)?\s+(?:with|for)|went\s+with|opt(?:ing)?\s+for"
    r"|vote\s+for|settle\s+on|conclude|guess|mark|wähle|elijo|choisis|escolho|scelgo|выбираю|say)"
)
_IT_IS = (
    r"(?:\b(?:it|this|that|which|answer|solution|and)(?:\s+(?:is|must\s+be|should\s+be|would\s+be|has\s+to\s+be|can\s+only\s+be"
    r"|leaves|means|gives)|'s)|\b(?:must|should|would|has\s+to|can\s+only)\s+be|\bleaves|\bleaving)"
)
_LETTERS_OF_OTHERS = str.maketrans("أبجدابجدহঅবডঢ", "ABCDABCDXABCD")


@lru_cache(maxsize=32)
def places_of(letters: str) -> Places:
    return Places(letters)


class Places:
    """Each method gives the letter in its place, or several that stand together, sorted; None where there is none."""

    def __init__(self, letters: str) -> None:
        upper, lower = f"[{letters}]", f"[{letters.lower()}]"
        start, end = r"(?<![A-Za-z0-9\\])(?<![A-Za-z]')", r"(?![A-Za-z0-9]|'[A-Za-z]|\.[A-Za-z])"
        letter = rf"{start}{upper}{end}"
        closes = r"[)\]}*_\"'”」』`.:;,!?$\\]"
        option = rf"(?:(?:{_OPTION})\s+)?\(?{letter}\)?"
        several = rf"{option}(?:{_JOIN}{option}){{1,25}}(?=\s*(?:{closes}|\Z|\n|are\b|both\b))"
        run = rf"{start}{upper}{{2,26}}{end}"
        lead = rf"(?:{_DRESS}|(?<![^\W_]){_LEAD_WORDS}(?![^\W_])){{0,20}}"
        lower_alone = rf"{start}{lower}(?=[).:\]}}*]|\s*(?:\n|\Z))"
        self._letters = frozenset(letters)
        self._one = re.compile(upper)
        self._leading = re.compile(
            rf"{lead}(?:(?P<several>{several})|(?P<one>{letter}|{start}{lower}(?![A-Za-z0-9' ]))|(?P<run>{run}))"
        )
        self._announced = re.compile(
            rf"{lead}(?:(?P<several>{several})|(?P<one>{letter}|{lower_alone})|(?P<run>{run})(?=\s*(?:{closes}|\Z|\n)))"
        )
        self._listed = re.compile(rf"\(?(?:{several}|{run})\)?[.]?")
        self._beginning = re.compile(
            rf"(?:{_DRESS}|(?i:option|choice)\s){{0,10}}(?P<one>{upper}|{lower}(?=[).:]))(?:(?:\*\*|__)?[.):\]](?:\*\*|__)?(?!\w)"
            rf"|(?:\*\*|__)?[ \t]*(?:\n|\Z)|[\"'*)}}]*\s*(?:[-–—,=]|because\b|since\b))(?!{_WRONG}|\s*{_JOIN}\(?{upper}\b)"
        )
        self._option_starts = re.compile(rf"(?:^|\n|[.;]\s)\s{{0,20}}(?:[*_-]{{0,3}}\s*)\(?({upper})[.):]")
        self._alone = re.compile(
            rf"{_DRESS}{{0,10}}(?P<one>{upper}|{lower})(?:{closes}|\s|\\\)){{0,10}}|{_DRESS}{{0,10}}(?P<label>{upper})[.)](?!{_WRONG})\s.*"
        )
        self._parenthesized = re.compile(rf"(?:(?<!\w)\(|(?<![\w(]))({upper}|{lower})\)(?!{_WRONG})")
        self._not = re.compile(r"(?:\bnot|\brather\s+than|\bneither|\bnor)\s+\(?\Z")
        self._closing = re.compile(rf"(?:(?P<several>{several})|(?P<one>{letter}))[\s.)\]}}*_$!\"'”]{{0,20}}\Z")
        self._several_in_parentheses = re.compile(rf"\({upper}\)(?:{_JOIN}\({upper}\))+")
        self._chosen = _choosing(letter, upper)

    def leading(self, text: str) -> str | None:
        """The letter that a box or the text behind a mark begins with."""
        match = self._leading.match(text)
        return None if match is None or self._is_word(match, text) else self._read(match)

    def announced(self, text: str) -> str | None:
        """The letter that comes next behind "the answer is", before anything else is said."""
        match = self._announced.match(text.translate(_LETTERS_OF_OTHERS) if not text.isascii() else text)
        return None if match is None or self._is_word(match, text) else self._read(match)

    def listed(self, text: str) -> str | None:
        """Several letters that are the whole text, as "A, C" or "AC"."""
        text = text.strip()
        return self._sorted(text) if len(text) < 200 and self._listed.fullmatch(text) else None

    def beginning(self, text: str) -> str | None:
        """The letter in front of its text, as in "B. 4", where no other option is listed below it."""
        match = self._beginning.match(text)
        if match is None:
            return None
        others = set(self._option_starts.findall(text)) - {match["one"].upper()}
        return None if others else match["one"].upper()

    def chosen(self, text: str) -> str | None:
        """The letter in the last sentence that chooses one."""
        found = max(
            (match for pattern in self._chosen for match in self._choices(pattern, text)),
            key=lambda m: m.end(),
            default=None,
        )
        return found["one"] if found else None

    def alone(self, line: str, *, with_text: bool) -> str | None:
        """The letter that is the whole line, or, with_text, stands in front of its text."""
        match = self._alone.fullmatch(line)
        if match is None or (match["label"] and not with_text):
            return None
        return (match["one"] or match["label"]).upper()

    def parenthesized(self, text: str) -> str | None:
        matches = [
            match
            for match in self._parenthesized.finditer(text)
            if not self._not.search(text, max(0, match.start() - 20), match.start())
        ]
        if not matches:
            return None
        several = last_match(self._several_in_parentheses, text)
        if several is not None and several.end() >= matches[-1].end():
            return self._sorted(several[0])
        return matches[-1][1].upper()

    def closing(self, text: str) -> str | None:
        match = self._closing.search(text, max(0, len(text) - 400))
        if match is None or (
            match["one"] == "I" and not re.search(r"(?:is|be|option|choice)\s\Z", text[: match.start()])
        ):
            return None
        return self._read(match)

    def _choices(self, pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
        for match in pattern.finditer(text):
            if not self._is_word(match, text) and not self._not.search(
                text, max(0, match.start("one") - 20), match.start("one")
            ):
                yield match

    def _is_word(self, match: re.Match[str], text: str) -> bool:
        """Whether it is the article or the pronoun: "A careful look", "I think"."""
        if "one" not in match.re.groupindex or match["one"] not in ("A", "I"):
            return False
        goes_on = _GOES_ON if match["one"] == "A" else _GOES_ON_BEHIND_I
        return re.match(rf"\s+(?!{goes_on}\b)[a-z]", text[match.end("one") : match.end("one") + 40]) is not None

    def _read(self, match: re.Match[str]) -> str:
        if match["one"]:
            return match["one"].upper()
        return self._sorted(match["several"] or match["run"])

    def _sorted(self, text: str) -> str:
        """The single letters in the text, without words such as "and"."""
        run = re.sub(rf"(?i:{_OPTION})|[^A-Za-z]|[a-z]+", "", text)
        return "".join(sorted(set(run) & self._letters))


def _choosing(letter: str, upper: str) -> list[re.Pattern[str]]:
    """Sentences that choose an option: "C is correct", "I pick C", "it must be C"."""
    mention = rf"(?:\(|\*\*)?(?P<one>{letter})(?:\)|\*\*)?"
    return [
        re.compile(
            rf"{mention}\s+(?:is|was|would\s+be|must\s+be|should\s+be|has\s+to\s+be|seems|seems\s+to\s+be|ist|est|es|è|é|är|er|jest)\s+"
            rf"(?:(?:the|my|clearly|indeed|therefore|thus|also|definitely|most\s+likely|probably|just|our|a|die|la|le|el|de|het|l')\s+){{0,3}}"
            rf"(?i:{_RIGHT})"
        ),
        re.compile(
            rf"(?i:(?<![^\W_]){_CHOOSING}(?![^\W_]))(?i:\s+(?:{_OPTION}|the|with|that|it|is|for|correct|right|best|die|la|l'|el|o|a))*"
            rf"[\s:]+{_DRESS}{{0,5}}(?P<one>{letter})"
        ),
        re.compile(
            rf"(?i:{_IT_IS})(?i:\s+(?:{_OPTION}|only|clearly|therefore|the|then|thus))*\s+{_DRESS}{{0,5}}(?P<one>{letter})"
        ),
        re.compile(
            rf"(?<!不)(?:应选|應選|故选|故選|选择|選擇|选|選|答)(?:择|項|项)?\s*[:]?\s*{_DRESS}{{0,3}}(?P<one>{upper})(?![A-Za-z])"
        ),
        re.compile(
            rf"(?<![A-Za-z])(?P<one>{upper})\)?\s*(?:项|項|选项)?\s*(?:是|为|才是)?\s*(?:正确|正確|对的|對的|正解|が正|は正|を選|가\s*정답|이\s*정답|번이\s*정답|가\s*맞|이\s*맞|입니다)"
        ),
        re.compile(rf"{mention}\s+(?:alone\s+)?(?:fits|works|remains|holds|matches|satisfies|it\s+is|is\s+left)\b"),
        re.compile(
            rf"(?i:(?<![^\W_])(?:answer|antwort|respuesta|réponse|resposta|risposta|ответ|cevap|yanıt|odpowiedź|jawaban))"
            rf"\s+(?P<one>{letter})(?!{_WRONG})"
        ),
        re.compile(rf"सही\s+(?:उत्तर|विकल्प)\s+{_DRESS}{{0,3}}(?P<one>{upper})(?![A-Za-z])"),
    ]
