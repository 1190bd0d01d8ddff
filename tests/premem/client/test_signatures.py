"""What help() and editors are told of the clients' methods."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, get_origin

import pytest

from premem import AsyncClient, Client
from premem.client.routes.all import Routes
from premem.client.scoring import AsyncScoring, Scoring
from premem.client.transport import Endpoint, Paginated
from premem.wire.examples import ExampleQuery
from premem.wire.jobs import Job, JobRequest


def declared(kind: type) -> set[str]:
    return {name for owner in Routes.__mro__ for name, value in vars(owner).items() if isinstance(value, kind)}


def public_methods(owner: type) -> list[tuple[type, str]]:
    return [(owner, name) for name, value in inspect.getmembers(owner, callable) if not name.startswith("_")]


METHODS = [method for owner in (Client, AsyncClient, Scoring, AsyncScoring) for method in public_methods(owner)]


def named(method: tuple[type, str]) -> str:
    return f"{method[0].__name__}.{method[1]}"


def function(method: tuple[type, str]) -> Callable[..., Any]:
    return getattr(method[0], method[1])


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_a_client_does_is_in_the_routes_of_both(kind):
    routes = declared(Endpoint | Paginated)

    assert {name for name in dir(kind) if not name.startswith("_")} - routes == {"close", "score"}


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_every_parameter_and_the_result_have_a_type(method):
    signature = inspect.signature(function(method))

    first, *parameters = signature.parameters.values()
    assert first.name == "self"
    assert [one.name for one in parameters if one.annotation is inspect.Parameter.empty] == []
    assert [one.name for one in parameters if one.kind is inspect.Parameter.VAR_POSITIONAL] == []
    assert signature.return_annotation is not inspect.Signature.empty
    assert set(function(method).__annotations__) == {*(one.name for one in parameters), "return"}


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_every_method_says_what_it_does_and_what_each_argument_is(method):
    documentation = inspect.getdoc(function(method)) or ""
    written = inspect.signature(inspect.unwrap(function(method)))
    arguments = {name for name in written.parameters if name != "self"}

    described = set(re.findall(r"^    (\w+): ", documentation, re.MULTILINE))
    if method == (AsyncClient, "score"):
        assert "as Client.score, with the same arguments" in documentation
        return
    assert re.match(r"[A-Z][^\n]+[.:]\n?", documentation)
    assert arguments - described == set()


@pytest.mark.parametrize("name", sorted(declared(Endpoint)))
def test_an_endpoint_is_a_function_of_the_client_and_a_coroutine_function_of_the_other(name):
    one, other = getattr(Client, name), getattr(AsyncClient, name)

    assert (inspect.isfunction(one), inspect.iscoroutinefunction(one)) == (True, False)
    assert inspect.iscoroutinefunction(other)
    assert inspect.signature(one) == inspect.signature(other)
    assert (one.__qualname__, other.__qualname__) == (f"Client.{name}", f"AsyncClient.{name}")


@pytest.mark.parametrize("name", sorted(declared(Paginated)))
def test_a_list_is_an_iterator_of_the_client_and_an_async_one_of_the_other(name):
    one, other = (inspect.signature(getattr(owner, name)).return_annotation for owner in (Client, AsyncClient))

    assert (get_origin(one), get_origin(other)) == (Iterator, AsyncIterator)
    assert one.__args__ == other.__args__


def test_a_job_is_created_from_a_request():
    signature = inspect.signature(Client.create_job)

    assert list(signature.parameters) == ["self", "request", "idempotency_key"]
    assert signature.parameters["request"].annotation is JobRequest
    assert signature.return_annotation is Job
    assert inspect.signature(AsyncClient.jobs).return_annotation == AsyncIterator[Job]


def test_filters_are_arguments_of_their_own():
    parameters = inspect.signature(Client.examples).parameters

    filters = list(parameters)[-len(ExampleQuery.__annotations__) :]
    assert filters == list(ExampleQuery.__annotations__)
    assert parameters["below"].annotation is float
    assert (parameters["below"].kind, repr(parameters["below"].default)) == (inspect.Parameter.KEYWORD_ONLY, "...")


def test_help_shows_arguments_types_and_docstrings():
    told = pydoc.plain(pydoc.render_doc(Client))

    assert "create_job(self, request: premem.wire.jobs.JobRequest, *, idempotency_key: str | None = None)" in told
    assert "Start a job that scores a data set at the checkpoints of a run." in told
    assert "async create_job(self," in pydoc.plain(pydoc.render_doc(AsyncClient))


def test_the_source_of_a_method_is_the_request_that_it_makes():
    assert '"POST", "/v1/jobs", body=body' in inspect.getsource(Client.create_job)


def test_a_class_of_ones_own_keeps_what_it_overrides():
    class Mine(Client):
        def job(self, job: str) -> Job:
            raise NotImplementedError

    assert Mine.create_job is Client.create_job
    assert Mine.job is vars(Mine)["job"]
