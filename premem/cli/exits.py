"""How the commands speak: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from premem.errors import InputError, NotFound, RowsError, ServiceError, Unreachable
from premem.output.console import say

if TYPE_CHECKING:
    from pydantic import BaseModel

OK, FAILED, BAD_INPUT, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = (
    "Exit codes: 0 it worked, 1 it failed (a job that failed, for one), 2 bad usage or input, "
    "3 the service is unreachable, 130 Ctrl-C."
)
SHOWN_LINES = 20


def print_json(value: BaseModel | dict[str, Any]) -> None:
    # ASCII only: what a model wrote reaches the terminal as \u escapes.
    print(json.dumps(value if isinstance(value, dict) else value.model_dump(mode="json")))


_QUERIES = re.compile(r"\?(question|trace|final_answer|id|messages|max_ungradable|repair_latex)=(\w+)")


def as_typed(message: str) -> str:
    """What the service says of its query as the options of the command line: ?final_answer=NAME is --final-answer NAME."""

    def option(query: re.Match[str]) -> str:
        name, value = query[1].replace("_", "-"), query[2]
        return {"true": f"--{name}", "false": f"--no-{name}"}.get(value, f"--{name} {value}")

    return _QUERIES.sub(option, message)


def complain(error: BaseException) -> int:
    """One line on stderr (bad rows, a line each), and the exit code that fits."""
    say(f"premem: {as_typed(str(error))}")
    if isinstance(error, RowsError):
        for line in error.lines[:SHOWN_LINES]:
            if str(line) not in str(error):
                say(f"  {as_typed(str(line))}")
        if (more := error.total - min(len(error.lines), SHOWN_LINES)) > 0:
            say(f"  … and {more:,} more")
    if isinstance(error, ServiceError) and error.status == 401:
        say("  PREMEM_API_KEY holds the key that is shown to the service")
    if isinstance(error, Unreachable):
        return UNREACHABLE
    wrong_input = InputError | NotFound | FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError
    return BAD_INPUT if isinstance(error, wrong_input) else FAILED
