"""Owns `GET /openapi.json`: the API, described once from what runs it when the application is made.

There is no second description. Paths come from the routes, and the rest from their `@operation`: bodies and parameters
are the types that are decoded, answers the types that are encoded, problems come from the table of problems.py. An
example is put together from those of its fields, so it is valid where they are. Tests post every example.

Does not: describe HEAD and OPTIONS, which HTTP has wherever there is a GET; or limits that the settings can change: the
descriptions name the setting.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from types import NoneType
from typing import Annotated, Any

import msgspec
from quart import Blueprint, Response
from quart_trio import QuartTrio
from werkzeug.routing import Rule

from hookd.core.ids import ID_PATTERN
from hookd.core.refusal import Refused
from hookd.edge.api.bodies import JSON, NDJSON
from hookd.edge.api.operations import Operation, Scope, operation, operation_of
from hookd.edge.api.problems import PROBLEM_JSON, PROBLEMS, body_of
from hookd.edge.api.schemas import ClientId, EndpointId, EventId, ProblemView
from hookd.edge.api.services import Services

Schema = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"
# Of the path; any other is text.
Slug = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(PROBLEMS)}, examples=["full"])]
PATH_PARAMETERS = {"client_id": ClientId, "event_id": EventId, "endpoint_id": EndpointId, "slug": Slug}
HEADER_PARAMETERS: dict[str, Schema] = {
    "Idempotency-Key": {"type": "string", "pattern": ID_PATTERN},
    "traceparent": {"type": "string", "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]},
}
SLUGS_OF_ANY = ("internal",)
SLUGS_OF_READING = ("not-acceptable",)
SLUGS_OF_PATHS = ("not-found",)  # an id with a slash in it is another path
SLUGS_OF_PARAMETERS = ("invalid-query",)
SLUGS_OF_BODIES = ("malformed-json", "body-timeout", "too-large", "unsupported-media-type")
SLUGS_OF_SCOPES = ("forbidden", "full")  # full: of answers that nobody takes
SLUGS_OF_TOKENS = ("unauthorized", "client-full")  # client-full: of what a token has in progress
HEADERS = {
    "Allow": "The methods that the path takes",
    "Retry-After": "Seconds after which it may be worth asking again",
    "WWW-Authenticate": "Bearer",
}
HEADER_OF_STATUS = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}
ABOUT = """\
hookd accepts events over HTTP and delivers each to its client's registered webhook URLs by POST, with retries, in \
memory only. `202` means: held in this process's memory, within its budget. Every error is a problem (RFC 9457) whose \
`type` says what it means and what to do. Under application/x-ndjson a body is one item of the array a line."""


def add_openapi(app: QuartTrio, services: Services) -> None:
    """Adds the last route, and describes all of them, itself included."""
    routes = Blueprint("openapi", __name__)

    @routes.get("/openapi.json")
    @operation("This description, in OpenAPI 3.1", scope=Scope.READ, answers={200: dict[str, Any]})
    async def get_openapi() -> Response:
        return Response(document(bool(services.effective.settings.http.tokens)), content_type=JSON)

    app.register_blueprint(routes)

    @cache  # made when first asked for; tokens may come and go by a reload
    def document(has_tokens: bool) -> bytes:
        return msgspec.json.encode(describe(app, version=services.run.version, has_tokens=has_tokens))


def describe(app: QuartTrio, *, version: str, has_tokens: bool) -> Schema:
    described = [(rule, operation_of(app.view_functions[rule.endpoint])) for rule in app.url_map.iter_rules()]
    describing = _Describing([one for _, one in described], has_tokens=has_tokens)
    paths: defaultdict[str, Schema] = defaultdict(dict)
    for rule, one in described:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths[path][method.lower()] = describing.operation(rule, one)
    document: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "hookd", "version": version, "description": ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in sorted({_tag(rule) for rule, _ in described})],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": describing.components, "responses": describing.responses_of_no_operation()},
    }
    if has_tokens:
        document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return document


class _Describing:
    """The parts of the document that share its components."""

    def __init__(self, operations: Sequence[Operation], *, has_tokens: bool) -> None:
        self._has_tokens = has_tokens
        queries = {one.query for one in operations if one.query is not None}
        # By their text: an annotated type cannot be hashed.
        types = {str(kind): kind for one in operations for kind in _types_of(one)}
        types |= {str(kind): kind for kind in (ProblemView, *PATH_PARAMETERS.values(), *queries)}
        schemas, components = msgspec.json.schema_components(types.values(), ref_template=REFERENCE)
        self._schemas = dict(zip(types, schemas, strict=True))
        names = {query.__name__ for query in queries}
        self._queries = {query: components[query.__name__] for query in queries}
        self.components = {name: schema for name, schema in sorted(components.items()) if name not in names}

    def operation(self, rule: Rule, one: Operation) -> Schema:
        parameters = [*self._path_parameters(rule), *self._query_parameters(one), *self._header_parameters(one)]
        found: Schema = {
            "operationId": rule.endpoint.rpartition(".")[2],
            "summary": one.summary,
            "tags": [_tag(rule)],
            **({"parameters": parameters} if parameters else {}),
        }
        if one.bodies:
            content = {media_type: self._body(media_type, kind) for media_type, kind in one.bodies.items()}
            found["requestBody"] = {"required": not one.is_body_optional, "content": content}
        found["responses"] = self._responses(rule, one)
        if one.scope is not None and self._has_tokens:
            found["security"] = [{"bearer": [scope.value for scope in one.tokens()]}]
        return found

    def _path_parameters(self, rule: Rule) -> list[Schema]:
        return [
            {"name": name, "in": "path", "required": True, "schema": self._path_schema(name)}
            for name in sorted(rule.arguments, key=rule.rule.index)
        ]

    def _path_schema(self, name: str) -> Schema:
        return self._schemas[str(PATH_PARAMETERS[name])] if name in PATH_PARAMETERS else {"type": "string"}

    def _query_parameters(self, one: Operation) -> list[Schema]:
        if one.query is None:
            return []
        properties = self._queries[one.query]["properties"]
        return [_query_parameter(name, dict(schema)) for name, schema in properties.items()]

    def _header_parameters(self, one: Operation) -> list[Schema]:
        return [
            {"name": name, "in": "header", "schema": HEADER_PARAMETERS[name], "description": text}
            for name, text in one.request_headers.items()
        ]

    def _responses(self, rule: Rule, one: Operation) -> Schema:
        responses: dict[int, Schema] = {}
        for status, kind in one.answers.items():
            responses[status] = {"description": one.summary}
            media_types = [one for one in (kind if isinstance(kind, tuple) else (kind,)) if isinstance(one, str)]
            if media_types:
                responses[status]["content"] = {one: {"schema": {"type": "string"}} for one in media_types}
            elif kind is not None:
                responses[status]["content"] = {JSON: self._content(kind)}
            if one.headers:
                responses[status]["headers"] = {name: _header(text) for name, text in one.headers.items()}
        by_status: defaultdict[int, list[str]] = defaultdict(list)
        of_any = _slugs_of_any(rule, one, has_tokens=self._has_tokens)
        for slug in dict.fromkeys((*one.problems, *of_any)):
            by_status[PROBLEMS[slug].status].append(slug)
        for status, slugs in by_status.items():
            answered = responses.get(status, {}).get("content", {})  # 503 of /readyz?verbose: text beside the problem
            responses[status] = self._response_of(slugs)
            responses[status]["content"] |= answered
        return {str(status): responses[status] for status in sorted(responses)}

    def responses_of_no_operation(self) -> Schema:
        """A path without the method that was asked for, or no path at all."""
        return {slug: self._response_of([slug]) for slug in ("not-found", "method-not-allowed")}

    def _response_of(self, slugs: Sequence[str]) -> Schema:
        """Problems that share a status."""
        content = {
            "schema": self._schemas[str(ProblemView)],
            "examples": {slug: _problem(slug) for slug in slugs},
        }
        response: Schema = {
            "description": "; ".join(PROBLEMS[slug].title for slug in slugs),
            "content": {PROBLEM_JSON: content},
        }
        name = HEADER_OF_STATUS.get(PROBLEMS[slugs[0]].status)
        if name is not None:
            response["headers"] = {name: _header(HEADERS[name])}
        return response

    def _body(self, media_type: str, kind: Any) -> Schema:
        """NDJSON's schema is that of all lines as an array (so OpenAPI 3.2 has it); its example is text to paste."""
        found = self._content(kind)
        if media_type == NDJSON:
            found["example"] = "".join(f"{msgspec.json.encode(item).decode()}\n" for item in found["example"])
        return found

    def _content(self, kind: Any) -> Schema:
        """A media type's; of a choice each way has its example."""
        if not isinstance(kind, tuple):
            return {"schema": self._schemas[str(kind)], "example": self._example(self._schemas[str(kind)])}
        schemas = [self._schemas[str(one)] for one in kind]
        examples = {f"{number}": {"value": self._example(schema)} for number, schema in enumerate(schemas, 1)}
        return {"schema": {"anyOf": schemas}, "examples": examples}

    def _example(self, schema: Schema) -> Any:
        """What its fields' examples come to; an optional field without one is left out."""
        if "examples" in schema:
            return schema["examples"][0]
        if "$ref" in schema:
            return self._example(self.components[schema["$ref"].rpartition("/")[2]])
        if "enum" in schema:
            return schema["enum"][0]
        if "anyOf" in schema:  # a choice: the first way that has an example, else null
            ways = [one for one in schema["anyOf"] if self._has_example(one)]
            return self._example(ways[0]) if ways else None
        match schema.get("type"):
            case "object":
                required = schema.get("required", [])
                fields = schema.get("properties", {})
                return {n: self._example(s) for n, s in fields.items() if n in required or self._has_example(s)}
            case "array":
                return [self._example(schema["items"])]
            case kind:
                return {"string": "", "boolean": False, "integer": 0, "number": 0.0}.get(str(kind))

    def _has_example(self, schema: Schema) -> bool:
        return "examples" in schema or any(self._has_example(one) for one in schema.get("anyOf", ()))


def _types_of(one: Operation) -> Iterable[Any]:
    for kind in (*one.bodies.values(), *one.answers.values()):
        for each in kind if isinstance(kind, tuple) else (kind,):
            if not isinstance(each, str | NoneType):
                yield each


def _slugs_of_any(rule: Rule, one: Operation, *, has_tokens: bool) -> Iterable[str]:
    yield from SLUGS_OF_ANY
    if "GET" in (rule.methods or ()):
        yield from SLUGS_OF_READING
    if rule.arguments:
        yield from SLUGS_OF_PATHS
    yield from SLUGS_OF_PARAMETERS
    if one.bodies:
        yield from SLUGS_OF_BODIES
    if one.scope is not None:
        yield from SLUGS_OF_SCOPES
        if has_tokens:
            yield from SLUGS_OF_TOKENS


def _query_parameter(name: str, schema: Schema) -> Schema:
    """A parameter that is left out is null to the handler; nobody can send null in a query."""
    if "anyOf" in schema:
        (schema,) = (one for one in schema["anyOf"] if one.get("type") != "null")
    schema = dict(schema)
    said = schema.pop("description", None)
    return {"name": name, "in": "query", **({"description": said} if said else {}), "schema": schema}


def _problem(slug: str) -> Schema:
    refused = Refused(PROBLEMS[slug].title)
    refused.slug = slug
    return {"summary": PROBLEMS[slug].title, "value": msgspec.to_builtins(body_of(refused))}


def _header(description: str) -> Schema:
    return {"description": description, "schema": {"type": "string"}}


def _tag(rule: Rule) -> str:
    return rule.endpoint.rpartition(".")[0] or "hookd"
