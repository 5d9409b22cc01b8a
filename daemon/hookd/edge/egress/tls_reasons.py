"""Says why TLS failed, in OpenSSL's words and in what whoever can mend it should do.

Where a verification failed, the endpoint's certificate is at fault, or whom we trust. An alert is what the endpoint
says of us. OpenSSL's words come first, since they are what people search for.
"""

import ssl

_ISSUER = (
    "its authority is not trusted here, or the endpoint sends no intermediate certificate; a private authority belongs "
    "into the endpoint's ca, or egress.ca_file"
)
_OTHER_NAME = "the endpoint shows a certificate for another name; it needs one for the URL's host"
_WANTS = "the endpoint wants a client certificate: set client_certificate and client_key"
_REFUSED = "the endpoint does not take our client certificate"

# By the verification's result, OpenSSL's X509_V_ERR_…
_OF_VERIFICATION = {
    2: _ISSUER,
    9: "the endpoint's certificate is not valid yet; its clock or ours may be wrong",
    10: "the endpoint must renew its certificate",
    18: _ISSUER,
    19: _ISSUER,
    20: _ISSUER,
    21: _ISSUER,
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
# By a part of the reason's name. The alerts are RFC 8446's, section 6.
_OF_REASON = {
    "CERTIFICATE_REQUIRED": _WANTS,
    "UNKNOWN_CA": f"{_REFUSED}: it does not know its authority",
    "BAD_CERTIFICATE": _REFUSED,
    "CERTIFICATE_UNKNOWN": _REFUSED,
    "UNSUPPORTED_CERTIFICATE": f"{_REFUSED}: it is of a kind that it cannot use",
    "CERTIFICATE_REVOKED": f"{_REFUSED}: it is revoked",
    "CERTIFICATE_EXPIRED": f"{_REFUSED}: it has expired",
    "ACCESS_DENIED": f"{_REFUSED}: it is not let in",
    "ALERT_HANDSHAKE_FAILURE": "no cipher in common, or the endpoint wants a client certificate that it would take",
    "UNRECOGNIZED_NAME": "the endpoint serves no such name: the URL's host",
    "PROTOCOL_VERSION": "the endpoint speaks no TLS 1.2 or later",
    "UNSUPPORTED_PROTOCOL": "the endpoint speaks no TLS 1.2 or later",
    "WRONG_VERSION_NUMBER": "the endpoint does not speak TLS on this port",
}


def tls_reason(error: ssl.SSLError) -> str:
    """Of an error that has a reason."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _with(error.verify_message, _OF_VERIFICATION.get(error.verify_code, ""))
    advice = next((advice for part, advice in _OF_REASON.items() if part in error.reason), "")
    return _with(error.reason.replace("_", " ").lower(), advice)


def _with(words: str, advice: str) -> str:
    return f"{words}: {advice}" if advice else words
