"""What help(), inspect.signature and notebooks show of a method that was made out of another function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, get_args, get_origin, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])


class _Elsewhere:
    """A default that is not here but in the service, shown as type stubs show it."""

    def __repr__(self) -> str:
        return "..."


DEFAULT_OF_SERVICE = _Elsewhere()


def describe(method: F, written: Callable[..., Any], owner: type, *, result: Any) -> F:
    """Give `method` the name, docstring and parameters of the function that was written, and the result's type.

    Keyword arguments that a TypedDict names (`**choice: Unpack[Choice]`) become parameters of their own.
    """
    hints = get_type_hints(written, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(written).parameters.values():
        annotation = hints.get(parameter.name, inspect.Parameter.empty)
        if get_origin(annotation) is Unpack:
            parameters += _keywords(get_args(annotation)[0])
        else:
            parameters.append(parameter.replace(annotation=annotation))
    described: Any = functools.update_wrapper(method, written)
    described.__module__ = owner.__module__
    described.__qualname__ = f"{owner.__qualname__}.{written.__name__}"
    described.__signature__ = inspect.Signature(parameters, return_annotation=result)
    named = {one.name: one.annotation for one in parameters if one.annotation is not inspect.Parameter.empty}
    described.__annotations__ = {**named, "return": result}
    return method


def _keywords(typed_dict: type) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULT_OF_SERVICE, annotation=annotation)
        for name, annotation in get_type_hints(typed_dict).items()
    ]
