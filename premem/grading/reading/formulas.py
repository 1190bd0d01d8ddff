"""Formulas as math-verify reads them best: LaTeX for the signs of Unicode, one way to write what has several."""

from __future__ import annotations

import re
from fractions import Fraction

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta lambda mu xi rho sigma tau phi chi psi omega "
    "Gamma Delta Theta Lambda Sigma Phi Psi Omega"
)
_SIGNS = str.maketrans(
    {
        "∞": "\\infty ",
        "∪": "\\cup ",
        "∩": "\\cap ",
        "∈": "\\in ",
        "∅": "\\emptyset ",
        "⌀": "\\emptyset ",
        "ø": "\\emptyset ",
        "≤": "\\le ",
        "≦": "\\le ",
        "⩽": "\\le ",
        "≥": "\\ge ",
        "≧": "\\ge ",
        "⩾": "\\ge ",
        "≠": "\\ne ",
        "×": "\\times ",
        "·": "\\cdot ",
        "⋅": "\\cdot ",
        "∙": "\\cdot ",
        "÷": "\\div ",
        "±": "\\pm ",
        "∓": "\\mp ",
        "−": "-",
        "°": "^\\circ ",
        "º": "^\\circ ",
        "…": "\\ldots ",
        "⋯": "\\ldots ",
        "≈": "\\approx ",
        "ℝ": "\\mathbb{R}",
        "ℤ": "\\mathbb{Z}",
        "ℕ": "\\mathbb{N}",
        "ℚ": "\\mathbb{Q}",
        "ℂ": "\\mathbb{C}",
        "∖": "\\setminus ",
        "∠": "\\angle ",
        "△": "\\triangle ",
        "∨": "\\lor ",
        "∧": "\\land ",
        "π": "\\pi ",
        "ϕ": "\\phi ",
        "ℓ": "\\ell ",
        "ⅈ": "i",
        "ⅇ": "e",
    }
    | {letter: f"\\{name} " for letter, name in zip("αβγδεζηθλμξρστφχψωΓΔΘΛΣΦΨΩ", _GREEK.split(), strict=True)}
)
_REWRITTEN: list[tuple[re.Pattern[str], str]] = [
    (
        re.compile(
            r"\\(?:Bigg?|bigg?)[lrm]?(?![A-Za-z])|\\(?:limits|nolimits|strut|null)(?![A-Za-z])|\\phantom\{[^{}]*\}"
        ),
        "",
    ),
    (re.compile(r"\\(?:rm|bf|it|textstyle|scriptstyle)(?![A-Za-z])"), ""),
    (re.compile(r"∛\s*(?:\{([^{}]*)\}|\(([^()]*)\)|([0-9]+|[A-Za-z]))"), r"\\sqrt[3]{\1\2\3}"),
    (re.compile(r"√\s*(?:\{([^{}]*)\}|\(([^()]*)\)|([0-9.]*[0-9]|[A-Za-z]|\\pi))"), r"\\sqrt{\1\2\3}"),
    (re.compile(r"(?<![A-Za-z\\])sqrt\s*\(([^()]*)\)|(?<![A-Za-z\\])sqrt\s*\{([^{}]*)\}"), r"\\sqrt{\1\2}"),
    (re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])"), r"\\pi "),
    (re.compile(r"(?<![A-Za-z\\])(?:infty|infinity)(?![A-Za-z])"), r"\\infty "),
    (re.compile(r"\\varnothing(?![A-Za-z])|\\O(?![A-Za-z])|\\\{\s*\\\}|\\text\{\s*[Øø]\s*\}"), r"\\emptyset "),
    (re.compile(r"\\(?:mathrm|text|operatorname|mathbf)\s*\{\s*(e|i|d)\s*\}"), r"\1"),
    (
        re.compile(r"\\(?:textbf|textit|textrm|textsf|mathbf|mathit|mathsf|mbox|hbox|bold|boldsymbol|bm)\s*\{"),
        r"\\text{",
    ),
    (re.compile(r"[€£¥₹₩₽]"), ""),
    (re.compile(r"\\leqslant|\\leqq|\\leq(?![A-Za-z])"), r"\\le"),
    (re.compile(r"\\geqslant|\\geqq|\\geq(?![A-Za-z])"), r"\\ge"),
    (re.compile(r"<=|=<"), r"\\le "),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"\\degree(?:s)?(?![A-Za-z])"), r"^\\circ "),
    (re.compile(r"\^\s*\^\\circ"), r"^\\circ"),
    (
        re.compile(
            r"\s*(?:\\text\s*\{\s*(?:percent|per cent|pct|Prozent)\s*\}|\\ ?percent|(?<=[0-9}])\s*\b(?:percent|pct)\b)"
        ),
        r"\\%",
    ),
    (re.compile(r"(?<!\\)%"), r"\\%"),
    (re.compile(r"(?<=[0-9])\s+degrees?\b|\\text\s*\{\s*degrees?\s*\}"), r"^\\circ "),
    (re.compile(r"\\dots[cbmio]?(?![A-Za-z])|\\cdots|\\ldotp|\\ldots|\.\.\."), r"\\ldots "),
    (re.compile(r"(?<![A-Za-z\\])(?:x|\\times)\s*(?=10\s*\^)"), r"\\times "),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"\\[;:]|\\q?quad(?![A-Za-z])|~"), " "),
]
_AND = re.compile(r"\\text\s*\{\s*,?\s*(?:and|or|und|oder)\s*,?\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])")
_COMMAS = re.compile(r",\s*,")
_RELATIONS = ("<", ">", "\\le", "\\ge", "\\ne")
_SPACED = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:(?:\\,|\\ |~|'|\{,\}|[ \u00a0\u2009\u202f])[0-9]{3})+(?![0-9/])")
_MIXED = re.compile(r"(?<![0-9./^_{])([0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)(?![0-9.])")
_SHORT_FRACTION = re.compile(
    r"\\frac\s*(?:([0-9a-zA-Z])\s*([0-9a-zA-Z])|([0-9a-zA-Z])\s*(\{)|(\{[^{}]*\})\s*([0-9a-zA-Z]))"
)
_REPEATING = re.compile(
    r"(?<![0-9.])(?P<whole>[0-9]*)\.(?P<once>[0-9]*?)"
    r"(?:\\(?:overline|bar|widebar)\s*(?:\{\s*(?P<over>[0-9]+)\s*\}|(?P<bar>[0-9]))"
    r"|\((?P<round>[0-9]+)\)(?:\\ldots ?)?|(?P<dots>(?:\\dot\s*(?:\{[0-9]\}|[0-9])[0-9]*)+)|(?P<seen>(?P<run>[0-9]{1,6})(?P=run){2,})[0-9]?\\ldots)"
)
_LEADING = re.compile(r"\s*(?:\\approx|\\simeq|≃|~|\\sim|=|:|\\therefore|\\Rightarrow|\\implies)\s*")


def normal(formula: str) -> str:
    """The same formula, in the form that is compared. Linear in its length for formulas of the usual depth."""
    formula = formula.translate(_SIGNS) if not formula.isascii() else formula
    for pattern, written in _REWRITTEN:
        formula = pattern.sub(written, formula)
    if not any(sign in formula for sign in _RELATIONS):
        formula = _COMMAS.sub(",", _AND.sub(",", formula))
    formula = _SPACED.sub(lambda match: re.sub("[^0-9]", "", match[0]), formula)
    formula = _SHORT_FRACTION.sub(_braced, formula)
    formula = _MIXED.sub(r"\1\\frac{\2}{\3}", formula)
    formula = _REPEATING.sub(_as_fraction, formula)
    lead = _LEADING.match(formula)
    return (formula[lead.end() :] if lead else formula).strip().rstrip(",").strip()


def _braced(match: re.Match[str]) -> str:
    if match[1]:
        return f"\\frac{{{match[1]}}}{{{match[2]}}}"
    return f"\\frac{{{match[3]}}}{{" if match[3] else f"\\frac{match[5]}{{{match[6]}}}"


def _as_fraction(match: re.Match[str]) -> str:
    """0.1666… as \\frac{1}{6}."""
    once = match["once"]
    if match["dots"]:
        period = re.sub("[^0-9]", "", match["dots"])
    elif match["seen"]:
        period = match["run"]
    else:
        period = match["over"] or match["bar"] or match["round"]
    if len(once) + len(period) > 60:
        return match[0]
    value = Fraction(int((match["whole"] or "0") + once + period) - int((match["whole"] or "0") + once or "0"))
    value /= 10 ** len(once) * (10 ** len(period) - 1)
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def listed(formula: str) -> list[str]:
    """The parts between the commas that stand in no brackets."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(formula):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(formula[start:place].strip())
            start = place + 1
    parts.append(formula[start:].strip())
    return parts
