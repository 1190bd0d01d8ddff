"""premem beside the programs that people train with: what each falls to with premem, and without.

    python benchmarks/resolve.py                     # every one of them, a few seconds each
    python benchmarks/resolve.py trl 'unsloth[cu128]' --python 3.12

Nothing is installed: `uv pip compile` chooses versions, once without premem and once with it. The client and the Trainer
callback live in the environment that trains, so no version may change there because of premem. Ends with status 1 where
one does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HOUSE = Path(__file__).parents[1]
GUESTS = ("axolotl", "verl", "trl", "lm-eval[math]", "llamafactory", "unsloth")
SECONDS = 300


class Unresolved(Exception):
    """There are no versions that fit each other; the message is the resolver's."""


def resolved(requirements: list[str], *, python: str) -> dict[str, str]:
    """Version by distribution, the newest that fit each other on this platform. Raises Unresolved."""
    # Only what stands here counts, not what whoever runs this has set for other projects.
    environment = {name: value for name, value in os.environ.items() if name not in {"UV_CONSTRAINT", "UV_OVERRIDE"}}
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "-",
        "--no-config",
        "--no-header",
        "--no-annotate",
        "--quiet",
    ]
    found = subprocess.run(
        [*command, "--python-version", python],
        input="\n".join(requirements),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=environment,
    )
    if found.returncode:
        raise Unresolved(" ".join(found.stderr.split()))
    pins = (line.partition(" ;")[0].partition("==") for line in found.stdout.splitlines() if "==" in line)
    return {name.strip(): version.strip() for name, _, version in pins}


def told(guest: str, *, python: str) -> tuple[bool, str]:
    """Whether nothing falls, and a line that says so."""
    name = guest.partition("[")[0]
    try:
        without = resolved([guest], python=python)
    except Unresolved as error:
        return True, f"{guest}: does not resolve on this platform, without premem either: {str(error)[:200]}"
    try:
        beside = resolved([guest, f"premem @ {HOUSE.as_uri()}"], python=python)
    except Unresolved as error:
        return False, f"{guest} {without[name]}: does not resolve beside premem: {str(error)[:500]}"
    changed = [
        f"{each} {version} → {beside.get(each, 'gone')}"
        for each, version in without.items()
        if beside.get(each) != version
    ]
    added = sorted(set(beside) - set(without) - {"premem"})
    more = f"; premem brings {', '.join(added)}" if added else "; premem brings nothing else"
    if changed:
        return False, f"{guest} {without[name]}: with premem {', '.join(changed)}"
    return True, f"{guest} {without[name]}: the same {len(without)} versions with premem as without{more}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python benchmarks/resolve.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("guests", nargs="*", default=GUESTS, help=f"requirements (default: {', '.join(GUESTS)})")
    parser.add_argument("--python", default="3.11", help="version that is resolved for (default %(default)s)")
    asked = parser.parse_args()
    if find_spec("uv") is None:
        print("uv is not installed here: pip install uv; nothing was resolved")
        return 0
    same = True
    for guest in asked.guests:
        kept, line = told(guest, python=asked.python)
        print(line, flush=True)
        same = same and kept
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
