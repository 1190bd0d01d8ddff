"""Second names and copies of checkpoints, for as long as they are not scored."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

HELD = "premem-held"
"""Folder beside the checkpoints, out of reach of `save_total_limit`."""
NOT_LOADED = (
    "optimizer*",
    "scheduler*",
    "rng_state*",
    "scaler*",
    "trainer_state.json",
    "training_args.bin",
    "global_step*",
)
"""What resumes a training run and no worker reads."""


def held(path: Path) -> tuple[Path, Callable[[], None]]:
    """A second name for a checkpoint's files, and what gives it up. Raises OSError."""
    second = path.parent / HELD / path.name
    shutil.rmtree(second, ignore_errors=True)  # of a run that was resumed before this step
    shutil.copytree(path, second, copy_function=_link, ignore=shutil.ignore_patterns(*NOT_LOADED))

    def release() -> None:
        shutil.rmtree(second, ignore_errors=True)

    return second, release


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # no links here
        shutil.copy2(source, target)


def copy_whole(source: Path, target: Path) -> None:
    """Whole or not at all: a worker may look at any moment."""
    partial = target.with_name(f".{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns(*NOT_LOADED))
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def nothing() -> None:
    pass
