"""The deny table, range by range, and what may be exempted from it."""

import ipaddress
import socket
from collections.abc import Collection

import pytest
from hookd.edge.egress.addresses import DENIED, AddressPolicy, is_this_machine

PUBLIC = ["1.1.1.1", "8.8.8.8", "192.0.1.1", "172.32.0.1", "100.128.0.1", "168.63.129.17", "::ffff:8.8.8.8"]
PUBLIC += ["2606:4700::1111", "2001:4860:4860::8888", "2a00:1450::1"]
# What advisories of other senders were about, each in the spelling that got through.
INTERNAL = {
    "127.0.0.1": "loopback",
    "0.0.0.0": "loopback to Linux",
    "169.254.169.254": "metadata",
    "fd00:ec2::254": "metadata",
    "100.100.100.200": "metadata",
    "192.0.0.192": "metadata",
    "168.63.129.16": "WireServer",
    "::": "unspecified",
    "::1": "loopback",
    "::127.0.0.1": "compatible",
    "::ffff:127.0.0.1": "mapped",
    "::ffff:7f00:1": "mapped, in hex",
    "0:0:0:0:0:ffff:7f00:1": "mapped, in full",
    "::ffff:169.254.169.254": "mapped",
    "::ffff:0:127.0.0.1": "translated",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b::808:808": "NAT64 of a public address",
    "64:ff9b:1::1": "NAT64, local",
    "2002:7f00:1::1": "6to4",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "Teredo",
    "fe80::1": "link-local",
    "febf::1": "link-local",
    "fec0::1": "site-local",
    "5f00::1": "segment routing",
    "3fff::1": "documentation",
    "100::1": "discard",
    "ff02::1": "multicast",
    "224.0.0.1": "multicast",
    "239.1.1.1": "multicast",
    "240.0.0.1": "class E",
    "255.255.255.255": "broadcast",
    "4000::1": "unassigned",
}
NO_ADDRESSES = [
    "fe80::1%eth0",
    "127.0.0.1%lo",
    "::1%1",
    "1.1.1.1%0",
    "localhost",
    "127.1",
    "0x7f000001",
    "",
    "1.1.1.1 ",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_allowed(address: str) -> None:
    assert AddressPolicy().judge([address], 443) is None


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_address_is_denied(address: str) -> None:
    assert AddressPolicy().judge([address], 443) == address


@pytest.mark.parametrize("network", [each.network for each in DENIED])
def test_every_range_is_denied_from_its_first_address_to_its_last(network: str) -> None:
    denied = ipaddress.ip_network(network)
    policy = AddressPolicy()
    for address in (denied[0], denied[-1], denied[denied.num_addresses // 2]):
        assert policy.judge([str(address)], 443) == str(address)
        if isinstance(address, ipaddress.IPv4Address):
            assert policy.judge([f"::ffff:{address}"], 443) == f"::ffff:{address}"


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_and_what_has_a_zone_is_denied(text: str) -> None:
    assert AddressPolicy(allow_private=True, allow_networks=["::/0", "0.0.0.0/0"]).judge([text], 443) == text


def test_one_denied_address_denies_them_all() -> None:
    assert AddressPolicy().judge(["1.1.1.1", "10.0.0.1", "2606:4700::1111"], 443) == "10.0.0.1"


def test_allowed_network_is_exempt_and_nothing_beside_it() -> None:
    policy = AddressPolicy(allow_networks=["10.1.0.0/16", "fd00:1::/32"])
    assert policy.judge(["10.1.2.3", "::ffff:10.1.2.3", "fd00:1::1"], 443) is None
    assert policy.judge(["10.2.0.1"], 443) == "10.2.0.1"
    assert policy.judge(["::10.1.2.3"], 443) == "::10.1.2.3"
    assert policy.judge(["127.0.0.1"], 443) == "127.0.0.1"


def test_allowed_nat64_prefix_opens_what_is_public_behind_it_only() -> None:
    policy = AddressPolicy(allow_networks=["64:ff9b::/96"])
    assert policy.judge(["64:ff9b::8.8.8.8"], 443) is None
    assert policy.judge(["64:ff9b::127.0.0.1"], 443) == "64:ff9b::127.0.0.1"


def test_allow_private_exempts_loopback_and_private_and_no_metadata_service() -> None:
    policy = AddressPolicy(allow_private=True)
    assert policy.judge(["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "::1", "fd12::1"], 443) is None
    for address in (
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "::",
        "fe80::1",
        "64:ff9b::7f00:1",
    ):
        assert policy.judge([address], 443) == address


def test_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        AddressPolicy(allow_networks=["10.0.0.0/33"])


def test_own_socket_is_denied_whatever_is_allowed() -> None:
    def own() -> Collection[tuple[str, int]]:
        return [("127.0.0.1", 8080)]

    policy = AddressPolicy(allow_private=True, allow_networks=["0.0.0.0/0", "::/0"], own_sockets=own)
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "0.0.0.0", "::"):
        assert policy.judge([address], 8080) == address
    assert policy.judge(["127.0.0.1"], 8081) is None
    assert policy.judge(["127.0.0.2", "10.0.0.1"], 8080) is None


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_own_wildcard_socket_is_denied_on_every_address_of_this_machine(wildcard: str) -> None:
    policy = AddressPolicy(allow_networks=["0.0.0.0/0", "::1/128"], own_sockets=lambda: [(wildcard, 8080)])
    own = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", *own_addresses()]
    for address in own:
        assert policy.judge([address], 8080) == address
        assert policy.judge([address], 8081) is None
    assert policy.judge(["1.1.1.1", "10.255.255.254"], 8080) is None


def own_addresses() -> list[str]:
    """The address that this machine has towards the world, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [str(probe.getsockname()[0])]


def test_address_of_this_machine_is_told_from_others() -> None:
    assert is_this_machine("127.0.0.1")
    assert is_this_machine("::1")
    assert not is_this_machine("1.1.1.1")
    assert not is_this_machine("2606:4700::1111")


@pytest.mark.parametrize("prefix", ["2606:4700::", "2a00:1450:4001:82a:", "fd00:1::"])
@pytest.mark.parametrize("interface", ["0:5efe", "200:5efe"])
def test_isatap_address_is_denied_under_any_prefix(prefix: str, interface: str) -> None:
    """Where its prefix is allowed, the IPv4 address inside must pass as well."""
    network = ipaddress.ip_network(f"{prefix.rstrip(':')}::/64")
    top = int(network.network_address)
    low = int(ipaddress.ip_address(f"::{interface}:0:0"))
    loopback, public = (
        str(ipaddress.ip_address(top | low | int(ipaddress.IPv4Address(inner)))) for inner in ("127.0.0.1", "8.8.8.8")
    )
    for policy in (AddressPolicy(), AddressPolicy(allow_private=True)):
        assert policy.judge([loopback], 443) == loopback
        assert policy.judge([public], 443) == public
    allowed = AddressPolicy(allow_networks=[str(network)])
    assert allowed.judge([loopback], 443) == loopback
    assert allowed.judge([public], 443) is None
