"""The bodies of the HTTP interface, by noun. Each name of a module here can be imported from `premem.wire`, too."""

from __future__ import annotations

from importlib import import_module

_MODULES = (
    "bodies", "datasets", "jobs", "tasks", "examples", "reports",
    "curation", "calibrations", "lineage", "tags", "estimates", "previews",
)  # fmt: skip


def __getattr__(name: str) -> object:
    if not name.startswith("_") and name not in _MODULES:  # a module that is not loaded yet is none of their names
        for module in _MODULES:
            found = vars(import_module(f"premem.wire.{module}"))
            if name in found:
                return found[name]
    raise AttributeError(f"module 'premem.wire' has no attribute {name!r}")
