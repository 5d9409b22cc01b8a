"""Owns the one POST to a client's endpoint: a request in, an `Outcome` out, over our own transport.

Rules: the verdict is the final head's. A 2xx is told as soon as its head is there; what follows is read aside, so that
the connection can be used again. Of any other answer the body is read for the excerpt, for at most BODY_SECONDS_MAX;
what becomes of it changes nothing. The attempt's scope bounds all else.

The address policy and the age of connections follow the settings in force: after a change of the policy kept
connections are closed, since they were judged when they were made.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio

from hookd.core import outcome as outcomes
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.outcome import Blocked, Exchange, Invalid, Outcome, Responded, Unreachable
from hookd.core.sizing import prepared_bytes_max
from hookd.edge.egress.addresses import AddressPolicy
from hookd.edge.egress.finishing import BODY_SECONDS_MAX
from hookd.edge.egress.prepared_posts import PreparedPost, PreparedPosts
from hookd.edge.egress.response import ResponseStream
from hookd.edge.egress.transport import AddressDenied, Transport, open_transport
from hookd.edge.egress.tunnel import PROXY_AUTHENTICATION_REQUIRED, refusal
from hookd.flow.ports import DeliveryRequest

OwnSockets = Callable[[], Collection[tuple[str, int]]]


@asynccontextmanager
async def open_sender(
    effective: EffectiveSettings, *, own_sockets: OwnSockets = tuple, **options: Any
) -> AsyncIterator["HttpSender"]:
    """`own_sockets` are those that we listen on: nothing is ever delivered to them. Options are the transport's."""
    delivery = effective.settings.delivery
    async with open_transport(
        policy=_policy(effective, own_sockets),
        connections_max=delivery.connections_max,
        connection_age_seconds_max=delivery.connection_age_seconds_max,
        # Fewer, and an endpoint that is kept busy is connected to again and again: with half of them every third time.
        # Twice the attempts, since beside each there may be an answer that is being read to its end.
        idle_per_endpoint_max=2 * delivery.concurrency,
        tls_contexts_max=effective.settings.egress.tls_contexts_max + 1,  # and that of `[egress]`
        **options,
    ) as transport:
        yield HttpSender(effective, transport, own_sockets=own_sockets)


class HttpSender:
    def __init__(self, effective: EffectiveSettings, transport: Transport, *, own_sockets: OwnSockets = tuple) -> None:
        self._effective = effective
        self._transport = transport
        self._own_sockets = own_sockets
        self._settings = effective.settings
        self._posts = PreparedPosts(prepared_bytes_max(effective.settings))

    async def send(self, request: DeliveryRequest, exchange: Exchange) -> Outcome:
        if self._effective.settings is not self._settings:
            self._follow_settings()
        try:
            post = self._posts.post(
                (request.client_id, request.endpoint_id, request.url, request.endpoint_headers, request.egress)
            )
            response, stream = await self._transport.exchange(
                post.parts,
                post.key,
                post.head.request(request.headers, request.body),
                exchange,
                body_bytes_max=self._settings.delivery.response_bytes_max,
                way=post.way,
            )
            if response.status_code == PROXY_AUTHENTICATION_REQUIRED and post.is_absolute:
                stream.close()
                raise _refused_by_proxy(post, exchange)
            exchange.answer = answer = Responded(response.status_code)
            exchange.retry_after = response.only_value(b"retry-after")
            exchange.excerpt = stream.body
            if not stream.is_settled:
                if outcomes.is_success(answer):
                    self._transport.finish(stream)
                else:
                    await _read_excerpt(stream, exchange)
            return answer
        except AddressDenied as denied:
            return Blocked(denied.address)
        except httpx.TransportError as error:
            return _outcome_of(error)
        except (httpx.InvalidURL, UnicodeError) as error:  # a URL that no validation foresaw
            return Invalid(f"the URL cannot be used: {type(error).__name__}")

    def _follow_settings(self) -> None:
        before, self._settings = self._settings, self._effective.settings
        self._posts.held_bytes_max = prepared_bytes_max(self._settings)
        self._transport.connection_age_seconds_max = self._settings.delivery.connection_age_seconds_max
        self._transport.tls_contexts_max = self._settings.egress.tls_contexts_max + 1
        if self._settings.egress is not before.egress:
            self._transport.policy = _policy(self._effective, self._own_sockets)
            self._transport.close_idle()


def _refused_by_proxy(post: PreparedPost, exchange: Exchange) -> httpx.ProxyError:
    """The one answer which says that nothing was passed on; but what went out before a reconnect may have been."""
    assert post.way is not None
    assert post.way.proxy is not None
    if not exchange.reconnected:
        exchange.sending_started = exchange.request_sent = False
    return refusal(PROXY_AUTHENTICATION_REQUIRED, post.way.proxy)


async def _read_excerpt(stream: ResponseStream, exchange: Exchange) -> None:
    try:
        with trio.move_on_after(BODY_SECONDS_MAX):
            await stream.read()
    except httpx.TransportError:
        pass  # the head has decided
    finally:  # also when the attempt is cut in the middle of the body
        exchange.excerpt = stream.body
        stream.close()


def _policy(effective: EffectiveSettings, own_sockets: OwnSockets) -> AddressPolicy:
    settings = effective.settings
    return AddressPolicy(
        allow_networks=settings.egress.allow_networks,
        own_sockets=own_sockets,
        allow_private=settings.dev,
        deny_ports=settings.egress.deny_ports,
    )


def _outcome_of(error: httpx.TransportError) -> Outcome:
    """The transport's exceptions in our words, by a table; never a receiver's own words."""
    match error:
        case httpx.RemoteProtocolError() if "disconnected" in str(error):
            return Unreachable("the connection was closed before an answer")
        case httpx.RemoteProtocolError():
            return Invalid(str(error))
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return Invalid(f"the request cannot be sent: {error}")
        case httpx.ConnectError() | httpx.ProxyError():
            return Unreachable(f"cannot connect: {error}")
        case _:
            return Unreachable(f"the connection broke: {error}")
