"""Certificates for tests of what may be registered: an authority, a client's certificate with its key, a server's."""

import trustme

CA = trustme.CA()
OTHER_CA = trustme.CA()


def ca_of(ca: trustme.CA = CA) -> str:
    return ca.cert_pem.bytes().decode()


def chain_of(certificate: trustme.LeafCert) -> str:
    return "".join(part.bytes().decode() for part in certificate.cert_chain_pems)


def key_of(certificate: trustme.LeafCert) -> str:
    return certificate.private_key_pem.bytes().decode()


CLIENT = CA.issue_cert(common_name="hookd")
OTHER_CLIENT = CA.issue_cert(common_name="hookd")
CERTIFICATE, KEY = chain_of(CLIENT), key_of(CLIENT)
