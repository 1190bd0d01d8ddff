r"""LaTeX whose backslashes a JSON escape has eaten: in JSON `"\frac"` is a form feed and `rac`.

Of the commands that begin with b, f, n, r or t a single backslash makes no JSON error but a backspace, form feed, line
break, carriage return or tab. Such a character and the rest of a command behind it are told from a text that is meant:
alone where the rest is no word that a line might begin with; else within a formula, or before a brace.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

_LETTERS = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_NAMES = {"\b": "backspace", "\f": "form feed", "\n": "line break", "\r": "carriage return", "\t": "tab"}

# What is left of each command; of LaTeX, amsmath and amssymb, as KaTeX and MathJax know them.
_PLAIN = {
    "b": "ackepsilon ackprime acksim acksimeq ackslash ar arwedge ecause egin eta eth etween f fseries ibitem ig igcap "
    "igcirc igcup igg iggl iggm iggr igl igm igodot igoplus igotimes igr igskip igsqcup igstar igtriangledown "
    "igtriangleup iguplus igvee igwedge inom lacklozenge lacksquare lacktriangle lacktriangledown lacktriangleleft "
    "lacktriangleright m mod old oldsymbol ot owtie ox oxdot oxed oxminus oxplus oxtimes race rack reve uildrel ullet "
    "umpeq",
    "f": "allingdotseq colorbox lushleft ootnote ootnotesize orall rac racs rak rown",
    "n": "abla atural earrow egthinspace ewcommand ewenvironment ewline ewpage geq gtr icefrac leftarrow leq oindent "
    "olimits obreak onumber ormalsize otag otin rightarrow subseteq supseteq triangleleft vdash warrow",
    "r": "aise aisebox brack ceil eal enewcommand ho hd ight ightarrow ightharpoondown "
    "ightharpoonup ightleftarrows ightleftharpoons ightrightarrows ightsquigarrow isingdotseq moustache oot ule",
    "t": "anh binom extbf extcolor extit extmd extnormal extrm extsc extsf extstyle exttt extup frac herefore heta "
    "hickapprox hicksim hickspace hinspace ilde imes iny riangle riangledown riangleleft rianglelefteq riangleq "
    "riangleright rianglerighteq woheadrightarrow",
}
_IN_A_FORMULA = {  # what begins a line of prose or code as well, or is one letter
    "b": "",
    "f": "box lat",
    "n": "cong e eg eq exists i less mid ot parallel prec sim succ u",
    "r": "angle brace ef floor group m q times vert",
    "t": "ag an au dots ext o op t",
}


def _either(commands: dict[str, str], letter: str) -> str:
    return "|".join(sorted(commands[letter].split(), key=len, reverse=True))


def _rest(letter: str) -> str:
    """What may follow a control character; of those that need a formula the group has a name."""
    first = {rest[0] for rest in f"{_PLAIN[letter]} {_IN_A_FORMULA[letter]}".split()}
    return f"(?=[{''.join(sorted(first))}])(?:{_either(_PLAIN, letter)}|(?P<{letter}>{_either(_IN_A_FORMULA, letter) or '(?!)'}))(?![A-Za-z])"


_EATEN = re.compile("|".join(f"(?:{re.escape(control)}{_rest(letter)})" for control, letter in _LETTERS.items()))
# A pattern that begins with one character is searched for twenty times as fast as one with a choice of them.
_SEARCHES = {control: re.compile(re.escape(control) + _rest(letter)).search for control, letter in _LETTERS.items()}
_DELIMITER = re.compile(r"\$\$|\$|\\[()\[\]]")
_CLOSES = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
_LONGEST_FORMULA = 2000


def may_be_eaten(text: str) -> bool:
    """False: `eaten` finds nothing. Quick, and linear in the length of the text."""
    return any(control in text and search(text) for control, search in _SEARCHES.items())


def eaten(text: str, *, formula: bool = False) -> Iterator[int]:
    """Where in a text a backslash and a letter have become a control character. `formula`: the whole text is one."""
    formulas: list[tuple[int, int]] | None = None
    for found in _EATEN.finditer(text):
        if found.lastgroup is not None and text[found.end() : found.end() + 1] != "{" and not formula:
            formulas = _formulas(text) if formulas is None else formulas
            before = bisect_right(formulas, (found.start(), len(text))) - 1
            if before < 0 or formulas[before][1] <= found.start():
                continue
        yield found.start()


def _formulas(text: str) -> list[tuple[int, int]]:
    """Where formulas begin and end, in order, but for those that span lines: their line breaks may be meant."""
    found = []
    opened: tuple[str, int] | None = None
    for delimiter in _DELIMITER.finditer(text):
        if opened is None:
            opened = (delimiter[0], delimiter.end()) if delimiter[0] in _CLOSES else None
        elif delimiter[0] == _CLOSES[opened[0]] or (opened[0], delimiter[0]) == ("$", "$$"):
            start, end = opened[1], delimiter.start()
            if end - start <= _LONGEST_FORMULA and "\n" not in _EATEN.sub("", text[start:end]):
                found.append((start, end))
            opened = None if delimiter[0] == _CLOSES[opened[0]] else ("$", delimiter.end())  # $a$$b$ are two
    return found


def described(text: str, place: int) -> str:
    r"""What stands there and what was meant: `a backspace where \boxed was meant`."""
    match = _EATEN.match(text, place)
    rest = "" if match is None else text[place + 1 : match.end()]
    return f"a {_NAMES[text[place]]} where \\{_LETTERS[text[place]]}{rest} was meant"


def repaired(text: str, *, formula: bool = False) -> tuple[str, int]:
    """The text with its backslashes, and how many were put back."""
    places = list(eaten(text, formula=formula))
    if not places:
        return text, 0
    pieces, end = [], 0
    for place in places:
        pieces += [text[end:place], "\\", _LETTERS[text[place]]]
        end = place + 1
    return "".join([*pieces, text[end:]]), len(places)


def repaired_row(row: dict[str, Any], *, formulas: frozenset[str | None]) -> tuple[dict[str, Any], int]:
    """A row with its backslashes in every column, and how many were put back; `formulas`: columns that are one."""
    count = 0
    new: dict[str, Any] = {}
    for name, value in row.items():
        new[name], more = _repaired_value(value, formula=name in formulas)
        count += more
    return (new, count) if count else (row, 0)


def _repaired_value(value: Any, *, formula: bool) -> tuple[Any, int]:
    if type(value) is str:
        return repaired(value, formula=formula) if may_be_eaten(value) else (value, 0)
    if type(value) is list:
        pairs = [_repaired_value(one, formula=formula) for one in value]
        return [one for one, _ in pairs], sum(count for _, count in pairs)
    if type(value) is dict:
        found = {name: _repaired_value(one, formula=formula) for name, one in value.items()}
        return {name: one for name, (one, _) in found.items()}, sum(count for _, count in found.values())
    return value, 0


# Escapes that JSON does not have

_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|(?P<lone>\\)(?=[A-Za-z(){}\[\],;:!|%$&#_ ])')


def doubled(content: bytes) -> tuple[bytes, int]:
    r"""JSON with every backslash doubled that begins no escape of JSON, as in `\alpha`; and how many."""
    count = 0

    def double(escape: re.Match[bytes]) -> bytes:
        nonlocal count
        if escape["lone"] is None:
            return escape[0]
        count += 1
        return b"\\\\"

    return _ESCAPE.sub(double, content), count
