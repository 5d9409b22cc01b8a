"""Holds every answer of the API against the document that the API publishes of itself.

Stricter than the document: of an object that the document describes, nothing may come that it does not name.
"""

import re
from typing import Any

import jsonschema_rs


class Conformity:
    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._components = {"schemas": {n: closed(s) for n, s in document["components"]["schemas"].items()}}
        self._paths = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in document["paths"]]
        self._validators: dict[str, Any] = {}

    def check(self, method: str, path: str, status: int, headers: Any, content: Any) -> None:
        """Fails unless the document has this answer. What no operation answers is a 404 or a 405."""
        operation = self._operation(method, path.partition("?")[0])
        if operation is None and method == "OPTIONS" and status == 204:
            assert headers["allow"]
            return
        if operation is None:
            assert status in (401, 403, 404, 405), f"{method} {path} answered {status} and is not documented"
            return
        assert str(status) in operation["responses"], f"{method} {path}: {status} is not documented: {content}"
        response = operation["responses"][str(status)]
        for name in response.get("headers", ()):
            assert name == "Location" or name in headers, f"{method} {path}: {status} without {name}"
        media_type = headers.get("content-type")
        if "content" not in response:
            assert not content
            return
        assert media_type in response["content"], f"{method} {path}: {status} as {media_type}"
        if "json" in media_type:
            self.validate(response["content"][media_type]["schema"], content)

    def validate(self, schema: dict[str, Any], value: Any) -> None:
        self.validator(schema).validate(value)

    def validator(self, schema: dict[str, Any]) -> Any:
        key = repr(schema)
        if key not in self._validators:
            whole = {**schema, "components": self._components}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        return self._validators[key]

    def _operation(self, method: str, path: str) -> Any:
        # The most exact first: /v1/events/batch is an event's path too.
        found = sorted((known for pattern, known in self._paths if pattern.fullmatch(path)), key=lambda p: p.count("{"))
        return next((ops[method.lower()] for p in found if method.lower() in (ops := self.document["paths"][p])), None)


def closed(schema: Any) -> Any:
    """The same schema, without room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: value if name in ("examples", "default") else closed(value) for name, value in schema.items()}
    return {"additionalProperties": False, **made} if "properties" in schema else made
