"""Which clients are registered, and how many at most."""

import pytest
from hookd.core.client import Client, Endpoint
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.refusal import RegistryFull, UnknownClient
from hookd.core.registry import Registry
from hookd.core.settings import RegistrySettings, Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def registry_of(clients_max: int) -> tuple[Registry, EffectiveSettings]:
    effective = EffectiveSettings(Settings(registry=RegistrySettings(clients_max=clients_max)))
    return Registry(effective), effective


def client(client_id: str, *endpoint_ids: str) -> Client:
    endpoints = (Endpoint(id=one, url=f"https://{one}.example/hook", secret=SECRET) for one in endpoint_ids)
    return Client(id=client_id, endpoints=tuple(endpoints))


def test_put_beyond_clients_max_is_refused_and_changes_nothing() -> None:
    """A new client over the limit is refused; the ones there stay."""
    registry, _ = registry_of(2)
    first, second = client("a", "x"), client("b", "x")
    registry.put(first)
    registry.put(second)
    with pytest.raises(RegistryFull, match=r"registry\.clients_max") as refused:
        registry.put(client("c", "x"))
    assert refused.value.slug == "registry-full"
    assert list(registry) == [first, second]
    assert len(registry) == 2
    assert registry.find("c") is None


def test_put_of_a_registered_client_when_full_replaces_it() -> None:
    """Replacing takes no room, so a full registry still takes it."""
    registry, _ = registry_of(1)
    registry.put(client("a", "x"))
    replacement = client("a", "y")
    registry.put(replacement)
    assert list(registry) == [replacement]
    assert registry.endpoint("a", "x") is None
    assert registry.endpoint("a", "y") is replacement.endpoints[0]


def test_put_after_a_removal_finds_room() -> None:
    """A removed client gives its place to another."""
    registry, _ = registry_of(1)
    registry.put(client("a", "x"))
    registry.remove("a")
    registry.put(client("b", "x"))
    assert [one.id for one in registry] == ["b"]


def test_put_after_the_limit_changed_obeys_the_new_one() -> None:
    """The settings in force count, not those at the start; what is over a lowered limit stays."""
    registry, effective = registry_of(2)
    registry.put(client("a"))
    registry.put(client("b"))
    effective.settings = Settings(registry=RegistrySettings(clients_max=1))
    with pytest.raises(RegistryFull):
        registry.put(client("c"))
    registry.put(client("b", "x"))
    effective.settings = Settings(registry=RegistrySettings(clients_max=3))
    registry.put(client("c"))
    assert [one.id for one in registry] == ["a", "b", "c"]


def test_get_of_an_unknown_client_says_what_to_do() -> None:
    """The refusal names the client and the request that would make it known."""
    registry, _ = registry_of(1)
    with pytest.raises(UnknownClient, match="PUT /v1/clients/acme and post again") as refused:
        registry.get("acme")
    assert refused.value.slug == "unknown-client"


def test_get_of_a_removed_client_is_refused() -> None:
    """Removed is as unknown as never registered."""
    registry, _ = registry_of(1)
    registry.put(client("a", "x"))
    assert registry.get("a") is registry.find("a")
    registry.remove("a")
    assert registry.find("a") is None
    assert registry.endpoint("a", "x") is None
    with pytest.raises(UnknownClient):
        registry.get("a")


def test_endpoint_is_found_by_client_and_id() -> None:
    """Endpoints of two clients may share an id and are still told apart."""
    registry, _ = registry_of(2)
    one, other = client("a", "x", "y"), client("b", "x")
    registry.put(one)
    registry.put(other)
    assert registry.endpoint("a", "x") is one.endpoints[0]
    assert registry.endpoint("a", "y") is one.endpoints[1]
    assert registry.endpoint("b", "x") is other.endpoints[0]
    assert registry.endpoint("b", "y") is None
    assert registry.endpoint("c", "x") is None


def large(client_id: str, endpoints_of_1_7_mib: int, *, managed_by_config: bool = False) -> Client:
    headers = (("x", "1" * 1_750_000),)
    endpoints = (
        Endpoint(id=str(number), url="https://x.example/hook", secret=SECRET, headers=headers)
        for number in range(endpoints_of_1_7_mib)
    )
    return Client(id=client_id, endpoints=tuple(endpoints), managed_by_config=managed_by_config)


def is_taken(registry: Registry, one: Client) -> bool:
    before = list(registry)
    try:
        registry.put(one)
    except RegistryFull as refused:
        said = str(refused)
    else:
        return True
    assert "registry.clients_max (10) gives them" in said
    assert list(registry) == before
    return False


def test_bytes_of_registered_clients_are_bounded_and_given_back() -> None:
    """A replacement takes the difference, a removal gives back what was held, and nothing else moves the sum."""
    registry, _ = registry_of(10)
    assert is_taken(registry, large("a", 1))
    assert not is_taken(registry, large("b", 1))
    for _ in range(5):
        assert is_taken(registry, large("a", 1))
    assert not is_taken(registry, large("a", 3))
    assert is_taken(registry, client("a", "x"))
    assert is_taken(registry, large("b", 1))
    assert not is_taken(registry, large("a", 1))
    for _ in range(5):
        registry.remove("b")
        assert is_taken(registry, large("b", 1))
    assert not is_taken(registry, large("a", 1))


def test_clients_of_the_file_take_none_of_the_api_s_bytes() -> None:
    """Nor do they give any back when they go, or become the API's for nothing."""
    registry, _ = registry_of(10)
    assert is_taken(registry, large("a", 5, managed_by_config=True))
    assert is_taken(registry, large("b", 1))
    registry.remove("a")
    assert not is_taken(registry, large("a", 1))
    registry.put(large("a", 5, managed_by_config=True))
    assert not is_taken(registry, large("a", 2))
    registry.put(large("b", 5, managed_by_config=True))
    assert is_taken(registry, large("a", 1))
    assert not is_taken(registry, large("b", 1))
