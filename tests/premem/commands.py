"""Commands as people run them, and what came of each."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from premem.cli.main import main


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


def premem(url: str, *arguments: str | Path) -> Ended:
    """The command, in this process: a new one takes a second to start."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("PREMEM_SERVICE", url)
        patch.delenv("PREMEM_API_KEY", raising=False)
        patch.setattr("sys.argv", ["premem", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
    return Ended(int(exit_.value.code or 0), out.getvalue(), err.getvalue())


EXAMPLES = 60


LOW = 20


def lines(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ok(ended: Ended) -> Ended:
    assert ended.returncode == 0, ended.stderr
    return ended


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
