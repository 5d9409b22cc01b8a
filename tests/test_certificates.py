"""Until when the daemon's own certificates are valid, as a scrape says it."""

import trustme
from hookd.core.certificate_validity import validity
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.settings import EgressSettings
from hookd.process.certificates import expire_at


def test_each_certificate_is_told_by_whose_it_is() -> None:
    """None, the API's alone, and both; an egress without a certificate of its own has none."""
    pem = trustme.CA().issue_cert("client.example").cert_chain_pems[0].bytes().decode()
    with_one = EgressSettings(shared=EndpointEgress(client_certificate=pem))
    assert expire_at(None, EgressSettings()) == {}
    assert expire_at(7.0, EgressSettings(shared=EndpointEgress())) == {"api": 7.0}
    assert expire_at(7.0, with_one) == {"api": 7.0, "egress": validity(pem)[1]}
