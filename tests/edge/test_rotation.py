"""`POST …/rotate-secret`: its body is optional, and judged like any other's where there is one."""

import json

import pytest
import trio
from hookd.core.client import Client
from hookd.core.settings import IntakeSettings, Settings

from tests.edge.test_api import JSON, Answer, Api, answer_of, refused_as, started
from tests.flow.harness import SECRET, endpoint

PATH = "/v1/clients/acme/endpoints/default/rotate-secret"
GIVEN = f"whsec_{'G' * 32}"


async def rotate(api: Api, body: object, path: str = PATH, content_type: str = "application/json") -> Answer:
    """With the length that a server would have been told."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await api.post(path, data, content_type=content_type, content_length=str(len(data)))


async def test_without_a_body_a_secret_is_made_and_shown_once(autojump_clock, nursery) -> None:
    """No body, and one of no length, whatever its type; `{}` and null name no secret either."""
    api = await started(nursery)
    for answer in (
        await api.post(PATH),
        await rotate(api, b"", content_type="application/x-www-form-urlencoded"),
        await rotate(api, {}),
        await rotate(api, {"secret": None}),
    ):
        [shown] = answer.body["endpoints"]
        assert shown["secret"] not in (SECRET, GIVEN)
    assert shown["secret"] == api.flow.registry.get("acme").endpoints[0].secret
    assert "secret" not in (await api.get("/v1/clients/acme")).body["endpoints"][0]


async def test_secret_that_is_given_is_taken_and_not_shown(autojump_clock, nursery) -> None:
    """It signs first, the one before beside it; whoever gave it knows it."""
    api = await started(nursery)
    answer = await rotate(api, {"secret": GIVEN})
    assert answer.status == 200
    assert "secret" not in answer.body["endpoints"][0]
    assert api.flow.registry.get("acme").endpoints[0].secrets(trio.current_time()) == (GIVEN, SECRET)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "slug"),
    [
        (b"{", "application/json", 400, "malformed-json"),
        (b"\xff", "application/json", 400, "malformed-json"),
        (b"  ", "application/json", 400, "malformed-json"),
        (b'{"secret": "%s"}' % GIVEN.encode(), "text/plain", 415, "unsupported-media-type"),
        (b'{"secret": "%s"}' % GIVEN.encode(), "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
        (b"{" + b" " * 500 + b"}", "application/json", 413, "too-large"),
        (b'{"secret": "whsec_short"}', "application/json", 422, "invalid-query"),
        (b'{"secret": 5}', "application/json", 422, "invalid-query"),
        (b'{"secrets": "%s"}' % GIVEN.encode(), "application/json", 422, "invalid-query"),
    ],
)
async def test_body_that_is_there_is_judged_as_any_other(
    autojump_clock, nursery, body: bytes, content_type: str, status: int, slug: str
) -> None:
    """By media type, size and content; the secret stays as it was, and no answer repeats the one that was given."""
    api = await started(nursery, Settings(intake=IntakeSettings(body_bytes_max=400)))
    answer = await rotate(api, body, content_type=content_type)
    refused_as(answer, status, slug)
    assert GIVEN not in json.dumps(answer.body)
    assert api.flow.registry.get("acme").endpoints[0].secrets(0.0) == (SECRET,)


async def test_body_in_pieces_has_a_minute(autojump_clock, nursery) -> None:
    """One that comes in pieces of no announced length counts as a body, and one that does not end is 408."""
    api = await started(nursery)
    chunked = JSON | {"transfer-encoding": "chunked"}
    async with api.client.request(PATH, method="POST", headers=chunked) as connection:
        await connection.send(b'{"secret": "')
        await connection.send(f'{GIVEN}"}}'.encode())
        await connection.send_complete()
    assert (await answer_of(await connection.as_response())).status == 200
    assert api.flow.registry.get("acme").endpoints[0].secret == GIVEN
    async with api.client.request(PATH, method="POST", headers=chunked) as connection:
        await connection.send(b"{")
    refused_as(await answer_of(await connection.as_response()), 408, "body-timeout")
    assert trio.current_time() == 60


async def test_client_of_the_configuration_rotates_by_its_configuration_alone(autojump_clock, nursery) -> None:
    """409 with the file named; the endpoint and the client have to be there first."""
    api = await started(nursery)
    api.flow.registration.take_config([Client(id="fixed", endpoints=(endpoint(),), managed_by_config=True)])
    fixed = PATH.replace("acme", "fixed")
    for answer in (await api.post(fixed), await rotate(api, {"secret": GIVEN}, fixed)):
        assert "SIGHUP" in refused_as(answer, 409, "managed-by-config").body["detail"]
    refused_as(await api.post(PATH.replace("default", "none")), 404, "not-found")
    refused_as(await api.post(PATH.replace("acme", "nobody")), 404, "unknown-client")
    assert api.flow.registry.get("fixed").endpoints[0].secrets(0.0) == (SECRET,)


async def test_document_says_that_the_body_may_be_left_out(autojump_clock, nursery) -> None:
    """And of a redelivery and a cancel of one event; of every other route with a body that it may not."""
    api = await started(nursery)
    document = (await api.get("/openapi.json")).body
    optional = {
        path
        for path, operations in document["paths"].items()
        for one in operations.values()
        if not one.get("requestBody", {"required": True})["required"]
    }
    rotation = "/v1/clients/{client_id}/endpoints/{endpoint_id}/rotate-secret"
    of_event = "/v1/clients/{client_id}/events/{event_id}"
    assert optional == {rotation, f"{of_event}/redeliver", f"{of_event}/cancel"}
    answers = document["paths"][rotation]["post"]["responses"]
    assert {"400", "408", "409", "413", "415", "503"} <= answers.keys()
