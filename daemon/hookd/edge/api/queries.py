"""Owns the query string. Each route's parameters are a Struct beside it; they are read here, before the route runs.

Rules: an unknown parameter is refused, and so is one that is given twice: a misspelt `partial` must not do the
opposite. Nothing is guessed: flags are `true` and `false`, numbers are ASCII digits.
Limit: a query of more than PARAMETERS_MAX is refused before it is taken apart; a head holds 4,000, and they took 10 ms.
"""

import re
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import inspect

from hookd.core.quoting import quoted
from hookd.core.refusal import InvalidQuery
from hookd.edge.api.request_exchange import ApiRequest, this_request

T = TypeVar("T")

PARAMETERS_MAX = 100
_WHOLE = re.compile(r"-?[0-9]{1,15}")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?")


class Parameter(NamedTuple):
    """One parameter: the rules that a Struct cannot express, and its description."""

    type: inspect.Type
    pattern: str | None
    words: str

    def value(self, text: str) -> object:
        """The value that `text` stands for. Where it stands for none, the text itself, which the decoder refuses."""
        match self.type:
            case inspect.BoolType() if text in ("true", "false"):
                return text == "true"
            case inspect.IntType() if _WHOLE.fullmatch(text):
                return int(text)
            case inspect.FloatType() if _DECIMAL.fullmatch(text):
                return float(text)
            case _:
                return text


def query(kind: type[T]) -> T:
    """The request's parameters, read as the route's `@operation(query=kind)` says."""
    read = this_request().parameters
    assert isinstance(read, kind), "a handler asks for the very Struct that stands in its @operation"
    return read


def read_query(request: ApiRequest, kind: type[msgspec.Struct] | None) -> Any:
    """A route's parameters; None where it has none. Raises InvalidQuery."""
    if not request.query_string and kind is None:
        return None
    if request.query_string.count(b"&") >= PARAMETERS_MAX:
        raise InvalidQuery(f"the query has more than {PARAMETERS_MAX} parameters")
    known = {} if kind is None else parameters_of(kind)
    values: dict[str, object] = {}
    for name, given in request.args.lists():
        if name not in known:
            there_are = f"there are {', '.join(known)}" if known else "this route takes none"
            raise InvalidQuery(f"{quoted(name)} is no parameter here; {there_are}")
        if len(given) > 1:
            raise InvalidQuery(f"{name} is given {len(given):,} times")
        pattern = known[name].pattern
        if pattern is not None and not re.fullmatch(pattern, given[0]):
            raise _refused(name, known, given[0])
        values[name] = known[name].value(given[0])
    if kind is None:
        return None
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        name = str(error).rpartition("`$.")[2].rstrip("`")
        raise _refused(name, known, request.args[name]) from None


@cache
def parameters_of(kind: type[msgspec.Struct]) -> dict[str, Parameter]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: _parameter(field.type) for field in info.fields}


def _parameter(kind: inspect.Type) -> Parameter:
    schema: dict[str, Any] = {}
    while isinstance(kind, inspect.UnionType | inspect.Metadata):
        if isinstance(kind, inspect.UnionType):  # with None, for one that may be left out
            kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
        else:
            schema |= kind.extra_json_schema or {}
            kind = kind.type
    return Parameter(kind, schema.get("pattern"), _words(kind, schema))


def _words(kind: inspect.Type, schema: dict[str, Any]) -> str:
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            return (
                f"{'a whole number' if isinstance(kind, inspect.IntType) else 'a number'} from {kind.ge} to {kind.le}"
            )
        case inspect.EnumType():
            return f"one of {', '.join(str(one.value) for one in kind.cls)}"
        case _:
            return str(schema.get("description", "text"))


def _refused(name: str, known: dict[str, Parameter], text: str) -> InvalidQuery:
    return InvalidQuery(f"{name} must be {known[name].words}, not {quoted(text)}")
