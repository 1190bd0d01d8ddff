"""What the site shows as the return types of the client's methods.

A method of `Client` is written as a generator of steps, `-> Steps[Job]`, or of a list, `-> Listing[Job]`; whoever calls
it gets a `Job`, or an iterator of them. mkdocs.yml names this file as an extension of griffe.
"""

from __future__ import annotations

from typing import Any

import griffe

CALLED = {"Steps": None, "Listing": "Iterator"}


class ClientSignatures(griffe.Extension):
    """Replaces `Steps[X]` by `X` and `Listing[X]` by `Iterator[X]`."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        returns = func.returns
        if isinstance(returns, griffe.ExprSubscript) and returns.canonical_name in CALLED:
            container = CALLED[returns.canonical_name]
            func.returns = returns.slice if container is None else griffe.ExprSubscript(container, returns.slice)
