"""The published schema of a client's definition and the hand-written check of it say the same."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hookd.core.client_definition import ClientRules, InvalidClient, client_from
from hookd.core.client_schema import (
    RESERVED_HEADER_PREFIXES,
    RESERVED_HEADERS,
    ClientDefinition,
    ShortDefinition,
)
from hookd.edge.egress import tls_mistakes
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.core import pem

RULES = ClientRules(allow_http=True, endpoints_max=3, headers_max=3)
PROVE = partial(tls_mistakes, wall=lambda: 1_800_000_000.0)
# What the descriptions say in words, for a schema cannot.
FORMATS = {
    "hookd-url": st.sampled_from(
        ["https://example.com/hook", "http://127.0.0.1:8080/?a=b", "HTTPS://[::1]/", "https://a.b."]
    ),
    "hookd-rate": st.sampled_from(["1/s", "1000/s", "30/m", "5/h"]),
    "hookd-timeout": st.sampled_from(["1ms", "0.5s", "15s", "60m", "1h"]),
    "hookd-ca": st.sampled_from([pem.ca_of(), f"text before it\n{pem.ca_of()}{pem.ca_of(pem.OTHER_CA)}"]),
    "hookd-client-certificate": st.just(pem.CERTIFICATE),
    "hookd-client-key": st.just(pem.KEY),
    "hookd-proxy": st.sampled_from(
        ["", "http://proxy.example:3128", "HTTP://u:p%40@[::1]:80/", "http://:p@10.1.2.3:8080"]
    ),
    "hookd-delay": st.sampled_from(["0s", "5s", "2m", "1.5h", "30d"]),
}


def schema_of_definition() -> dict[str, Any]:
    """As published; what the settings bound is added, for the generator."""
    types = [ClientDefinition, ShortDefinition]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    components["ClientDefinition"]["properties"]["endpoints"]["maxItems"] = RULES.endpoints_max
    components["EndpointDefinition"]["properties"]["headers"]["anyOf"][0]["maxProperties"] = RULES.headers_max
    for name in ("EndpointDefinition", "ShortDefinition"):  # the generator has its own idea of `uri`
        components[name]["properties"]["url"]["format"] = "hookd-url"
    return {"anyOf": list(schemas), "$defs": components}


def values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What the schema allows: of its words those that a definition's schema has."""
    match schema:
        case {"$ref": name}:
            return values_of(SCHEMA["$defs"][name.rpartition("/")[2]])
        case {"anyOf": ways}:
            return st.one_of(*map(values_of, ways))
        case {"type": "object", "properties": properties}:
            required = {name: values_of(properties[name]) for name in schema["required"]}
            optional = {name: values_of(one) for name, one in properties.items() if name not in required}
            return st.fixed_dictionaries(required, optional=optional)
        case {"type": "object", "propertyNames": names}:
            keys = values_of({"type": "string", **names}).filter(
                lambda name: not re.search(names["not"]["pattern"], name)
            )
            return st.dictionaries(keys, values_of(schema["additionalProperties"]), max_size=schema["maxProperties"])
        case {"type": "array"}:
            largest = schema["maxItems"]
            return st.lists(values_of(schema["items"]), min_size=schema.get("minItems", 0), max_size=largest)
        case {"type": "string", "format": name}:
            return FORMATS[name]
        case {"type": "string", "pattern": pattern}:
            texts = st.from_regex(pattern.removesuffix("$"), fullmatch=True)  # `$` lets a line break pass in Python
            return texts.filter(lambda text: len(text) <= schema.get("maxLength", len(text)))
        case {"type": "integer"}:
            return st.integers(schema["minimum"], schema["maximum"])
        case {"type": "null"}:
            return st.none()
        case {"type": "boolean"}:
            return st.booleans()
        case {"enum": values}:
            return st.sampled_from(values)
    raise AssertionError(f"a definition's schema has come to say more: {schema}")


def with_ids(definition: dict[str, Any]) -> dict[str, Any]:
    """What no schema says: several endpoints need ids, each its own; no header stands twice in different case; a
    certificate needs its key."""
    endpoints = definition.get("endpoints", ())
    for number, endpoint in enumerate(endpoints):
        if len(endpoints) > 1:
            endpoint["id"] = f"{number}{endpoint.get('id') or ''}"[:64]
        if (endpoint.get("client_certificate") is None) != (endpoint.get("client_key") is None):
            endpoint["client_certificate"] = endpoint["client_key"] = None
        headers = endpoint.get("headers") or {}
        endpoint["headers"] = dict({name.lower(): (name, value) for name, value in headers.items()}.values())
    return definition


def is_accepted(definition: object) -> bool:
    try:
        client_from(definition, client_id="acme", rules=RULES, new_secret=lambda: "whsec_", prove_tls=PROVE)
    except InvalidClient:
        return False
    return True


SCHEMA = schema_of_definition()
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
DEFINITIONS = values_of(SCHEMA).map(with_ids)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NEARLY = st.sampled_from(
    ["", "a b", "-1s", "2d\n", "whsec_", "http://", 0, 1001, 1.5, True, [], [""], {}, {"host": "x"}]
)


@given(DEFINITIONS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_definition_that_the_schema_allows_is_accepted(definition: Any) -> None:
    """Every field in every form that the document has."""
    assert VALIDATOR.is_valid(definition)
    assert is_accepted(definition)


@pytest.mark.parametrize("shown", [str.lower, str.upper, str.title])
def test_header_that_is_hookd_s_own_is_in_the_schema_in_any_case(shown: Callable[[str], str]) -> None:
    """Each of them, and whatever begins as one does; a name that only has one in it is the client's."""
    for own in (*RESERVED_HEADERS, *(f"{prefix}x" for prefix in RESERVED_HEADER_PREFIXES)):
        for name, is_allowed in ((own, False), (f"x-{own}", True)):
            definition = {"endpoints": [{"url": "https://example.com/", "headers": {shown(name): "1"}}]}
            assert VALIDATOR.is_valid(definition) is is_accepted(definition) is is_allowed, name


def test_every_field_of_the_schema_says_what_it_is() -> None:
    """Whoever writes a definition from the document alone has nothing else to go by."""
    for name in ("ClientDefinition", "ShortDefinition", "EndpointDefinition"):
        for field, schema in SCHEMA["$defs"][name]["properties"].items():
            assert schema.get("description") or any(way.get("description") for way in schema.get("anyOf", [])), field


@given(st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_definition_with_any_one_violation_of_the_schema_is_refused(data: st.DataObject) -> None:
    """A value of the wrong kind or form anywhere, a field that does not exist, or one left out."""
    definition = data.draw(DEFINITIONS)
    holder, key = data.draw(st.sampled_from(places(definition)))
    match data.draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            holder[key] = data.draw(ANYTHING | NEARLY)
        case "remove":
            del holder[key]
        case "add":
            target = holder if isinstance(holder, dict) else definition
            target[data.draw(st.text(min_size=1) | st.sampled_from(["Url", "urls", "host", "Content-Type"]))] = "x"
    assume(not VALIDATOR.is_valid(definition))
    assert not is_accepted(definition)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in it that holds something."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *places(value[key])]]
