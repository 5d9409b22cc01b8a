"""`GET /openapi.json`: it is valid, whole, and true: its examples work, and its schemas say what the handlers take."""

import json
from typing import Any

import msgspec
from hookd import __version__
from hookd.core.settings import HttpSettings, Settings, TokenSettings
from hookd.edge.api import create_app
from hookd.edge.api.openapi import describe
from hookd.edge.api.problems import PROBLEMS
from openapi_spec_validator import validate

from tests.edge.conformity import Conformity
from tests.edge.test_api import Api, event, refused_as, started
from tests.flow.harness import Flow


async def document(api: Api) -> dict[str, Any]:
    answer = await api.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = answer.body
    return found


async def test_document_is_openapi_3_1(autojump_clock, nursery) -> None:
    """By the validator of the OpenAPI people's own schema, with this run's version in it."""
    api = await started(nursery)
    found = await document(api)
    validate(found)
    assert found["openapi"].startswith("3.1")
    assert found["info"]["version"] == api.services.run.version
    assert found["servers"] == [{"url": "/"}]


async def test_every_route_is_in_it_with_every_method(autojump_clock, nursery) -> None:
    """Each path and method that the application has, under an id of its own, and nothing else."""
    api = await started(nursery)
    found = await document(api)
    routes = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in api.client.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    operations = {(path, method): op for path, ops in found["paths"].items() for method, op in ops.items()}
    assert set(operations) == routes
    assert len({op["operationId"] for op in operations.values()}) == len(operations)
    for op in operations.values():
        assert any(status.startswith("2") for status in op["responses"])


async def test_every_problem_of_the_table_is_in_it(autojump_clock, nursery) -> None:
    """Under the status that the table gives it; that of a missing token only where there are tokens."""
    api = await started(nursery)
    found = await document(api)
    responses = [
        response for ops in found["paths"].values() for op in ops.values() for response in op["responses"].items()
    ]
    responses += [(str(PROBLEMS[slug].status), one) for slug, one in found["components"]["responses"].items()]
    seen: dict[str, str] = {}
    for status, response in responses:
        for slug in response.get("content", {}).get("application/problem+json", {}).get("examples", ()):
            seen[slug] = status
    absent = {"unauthorized"}
    assert seen == {slug: str(problem.status) for slug, problem in PROBLEMS.items() if slug not in absent}


async def test_with_tokens_each_operation_names_the_scopes_that_open_it(autojump_clock) -> None:
    """And the two health routes none."""
    flow = Flow(Settings(http=HttpSettings(tokens=(TokenSettings(name="ops", scope="admin", token="x" * 20),))))
    found = json.loads(msgspec.json.encode(describe_of(flow)))
    validate(found)
    assert found["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
    scopes = {
        (method, path): op["security"][0]["bearer"] if "security" in op else None
        for path, ops in found["paths"].items()
        for method, op in ops.items()
    }
    assert scopes["post", "/v1/events"] == ["produce", "register", "admin"]
    assert scopes["get", "/v1/events"] == ["read", "produce", "register", "admin"]
    assert scopes["put", "/v1/clients/{client_id}"] == ["register", "admin"]
    assert scopes["get", "/livez"] is scopes["get", "/readyz"] is None
    assert "401" in found["paths"]["/v1/events"]["post"]["responses"]


async def test_examples_of_requests_work_when_pasted(autojump_clock, nursery) -> None:
    """Each is posted as it stands, and answered with a documented success; a client's registration comes first."""
    api = await started(nursery)
    await api.post("/v1/events", event(id="in_1-paid"))  # as the path's example
    conformity = Conformity(await document(api))
    operations = [(m, path, op) for path, ops in conformity.document["paths"].items() for m, op in ops.items()]
    count = 0
    for method, path, op in sorted(operations, key=lambda one: one[0] != "put"):
        for media_type, content in op.get("requestBody", {}).get("content", {}).items():
            for example in examples_of(content):
                body = example.encode() if isinstance(example, str) else example
                if path.endswith("/redeliver"):  # of an event that is there
                    await api.post("/v1/events", event(id="in_1-paid"))
                answer = await api.call(method.upper(), path_example(path, op), body, content_type=media_type)
                assert 200 <= answer.status < 300, (method, path, example, answer.body)
                count += 1
    assert count >= 9


async def test_examples_of_answers_are_valid_by_their_schemas(autojump_clock, nursery) -> None:
    """Of problems too."""
    api = await started(nursery)
    conformity = Conformity(await document(api))
    for ops in conformity.document["paths"].values():
        for op in ops.values():
            for response in op["responses"].values():
                for content in response.get("content", {}).values():
                    for example in examples_of(content):
                        conformity.validate(content["schema"], example)


def examples_of(content: dict[str, Any]) -> list[Any]:
    single = [content["example"]] if "example" in content else []
    return single + [one["value"] for one in content.get("examples", {}).values()]


def path_example(path: str, op: dict[str, Any]) -> str:
    for parameter in op.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["schema"]["examples"][0])
    return path


# Query parameters


async def test_every_route_refuses_a_parameter_that_it_does_not_have(autojump_clock, nursery) -> None:
    """422 invalid-query, before anything else is looked at."""
    api = await started(nursery)
    for path, ops in (await document(api))["paths"].items():
        for method, op in ops.items():
            answer = await api.call(method.upper(), f"{path_example(path, op)}?nonsense=1")
            refused_as(answer, 422, "invalid-query")
            assert "'nonsense' is no parameter" in answer.body["detail"]


async def test_every_parameter_is_refused_when_it_is_given_twice_or_wrongly(autojump_clock, nursery) -> None:
    """Twice, empty, with a line break behind it, null, or in digits of another script."""
    api = await started(nursery)
    seen = set()
    for path, ops in (await document(api))["paths"].items():
        for method, op in ops.items():
            for parameter in op.get("parameters", ()):
                if parameter["in"] != "query":
                    continue
                name, schema = parameter["name"], parameter["schema"]
                seen.add(name)
                wrong = [f"{name}=1&{name}=1"]
                if schema.get("type") != "string" or "pattern" in schema or "$ref" in schema:
                    wrong += [f"{name}=", f"{name}=true%0A", f"{name}=%D9%A1", f"{name}=a%20b"]
                if schema.get("type") != "string":
                    wrong += [f"{name}=null", f"{name}=1e1"]
                for query in wrong:
                    answer = await api.call(method.upper(), f"{path_example(path, op)}?{query}")
                    refused_as(answer, 422, "invalid-query")
                    assert name in answer.body["detail"]
    assert {"limit", "cursor", "status", "client_id", "type", "partial", "end_unsettled"} <= seen


def describe_of(flow: Flow) -> dict[str, Any]:
    app = create_app(flow.services())
    return describe(app, version=__version__, has_tokens=bool(flow.effective.settings.http.tokens))
