"""Owns what a route declares beside its path: who may call it, what it takes, what it answers.

There is one description for all readers: auth.py reads the scope, openapi.py the rest. For a route without one,
`create_app` raises.
"""

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ATTRIBUTE = "hookd_operation"


class Scope(enum.Enum):
    """A token's, and a route's; `admin` includes the others, `register` includes `produce`."""

    PRODUCE = "produce"
    REGISTER = "register"
    READ = "read"
    ADMIN = "admin"


class Operation(NamedTuple):
    summary: str
    scope: Scope | None  # None: open to everyone, whoever they are
    producers_too: bool  # a read that a token of scope `produce` may do: of events and settlements
    bodies: Mapping[str, Any]  # media type -> the type that the handler decodes; a tuple is a choice of types
    query: Any  # a msgspec.Struct type with a field for each parameter, None: it has none
    answers: Mapping[
        int, Any
    ]  # status -> the type that is encoded; a str is a media type of text, a tuple a choice, None no content
    problems: tuple[str, ...]  # slugs of its own; those that any route may answer are openapi.py's
    headers: Mapping[str, str]  # of its answers: name -> what it says
    request_headers: Mapping[str, str] = {}  # of its own: name -> what it says
    is_body_optional: bool = False  # the route does without one, too
    names_clients: bool = False  # in its query or body, and it refuses those that the token is not held to
    has_shell: bool = False  # a browser without a token gets a page without data, which asks for one

    def tokens(self) -> tuple[Scope, ...]:
        """The scopes that open it, the least first; none: it is open to everyone."""
        match self.scope:
            case None:
                return ()
            case Scope.PRODUCE:
                return (Scope.PRODUCE, Scope.REGISTER, Scope.ADMIN)
            case Scope.ADMIN:
                return (Scope.ADMIN,)
            case _ if self.producers_too:
                return (self.scope, Scope.PRODUCE, Scope.REGISTER, Scope.ADMIN)
            case _:
                return (self.scope, Scope.ADMIN)


def operation(
    summary: str,
    *,
    scope: Scope | None,
    producers_too: bool = False,
    bodies: Mapping[str, Any] | None = None,
    query: Any = None,
    answers: Mapping[int, Any] | None = None,
    problems: tuple[str, ...] = (),
    headers: Mapping[str, str] | None = None,
    request_headers: Mapping[str, str] | None = None,
    is_body_optional: bool = False,
    names_clients: bool = False,
    has_shell: bool = False,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """The decorator that stands under the route's own."""
    described = Operation(
        summary,
        scope,
        producers_too,
        bodies or {},
        query,
        answers or {},
        problems,
        headers or {},
        request_headers or {},
        is_body_optional,
        names_clients,
        has_shell,
    )

    def mark(view: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        setattr(view, ATTRIBUTE, described)
        return view

    return mark


def operation_of(view: Callable[..., Any]) -> Operation:
    """Raises LookupError where the route has none."""
    found = getattr(view, ATTRIBUTE, None)
    if not isinstance(found, Operation):
        raise LookupError(f"the route {view.__name__} has no @operation")
    return found
