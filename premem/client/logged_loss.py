"""What a checkpoint's own training log says of its loss, held to what was scored."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from premem.client.client import Client
    from premem.wire.jobs import Job

STATE = "trainer_state.json"
TIMES, NATS = 1.5, 0.25
"""A loss that is more than so many times the logged one, and so many nats, is another text's. The logged one is a mean over
the steps before, usually higher than the checkpoint's own; one that is far higher says nothing, since it may be over the
prompts, too."""


def logged_loss(checkpoint: Path) -> float | None:
    """The last training loss (nats per token) that the Trainer logged before it saved this folder; None: not known."""
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found = losses[-1] if losses else None
    return float(found) if isinstance(found, int | float) and math.isfinite(found) and found >= 0 else None


def far_from_logged(client: Client, job: Job) -> str | None:
    """A warning where the first checkpoint's references are far less likely than the texts that it was trained on."""
    first = next((one for one in job.checkpoints if one.state == "completed"), None)
    logged = None if first is None else logged_loss(Path(first.path))
    if first is None or logged is None:
        return None
    import numpy as np

    perplexities = client.matrix(job.id).perplexity_CE[0]  # those that failed are left out of it
    perplexities = perplexities[np.isfinite(perplexities)]
    if not len(perplexities):
        return None
    scored = float(np.log(perplexities).mean())
    if scored <= TIMES * logged + NATS:
        return None
    return (
        f"{first.name}: the mean loss of the references is {scored:.2f}, and its training had logged {logged:.2f} "
        f"({STATE}). They are probably not asked in the form that was trained on: --chat (with --system), or "
        "--template-prompt and --template-target say which that is"
    )
