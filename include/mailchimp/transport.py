"""Sends one HTTP request and turns the failures of the network into our own exceptions, without addresses in them."""

from __future__ import annotations

import logging
import ssl

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, SSLError

from include.mailchimp.errors import CertificateRefused, ConnectionFailed, redact


class _NoQueryStrings(logging.Filter):
    """Keeps signatures of result links and e-mail filters out of urllib3's debug log, which writes whole addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                redact(value.partition("?")[0]) if isinstance(value, str) else value for value in record.args
            )
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_NoQueryStrings())


def send(
    session: requests.Session, request: requests.PreparedRequest, *, timeout: tuple[float, float], stream: bool = False
) -> requests.Response:
    """Send a prepared request once, without following redirects.

    Args:
        session: whose proxies, certificates and connections are used.
        request: what to send.
        timeout: seconds to connect, seconds between two bytes of the reply.
        stream: leave the body unread.

    Returns:
        The reply, whatever its status.

    Raises:
        ConnectionFailed: there was no (complete) reply. Its text never contains the address.
    """
    # The session's own settings go in as the request's: the environment's would win over them otherwise.
    settings = session.merge_environment_settings(
        request.url, dict(session.proxies), stream, session.verify, session.cert
    )
    try:
        return session.send(request, timeout=timeout, allow_redirects=False, **settings)
    except (requests.RequestException, OSError) as error:
        # `from None`: the original's text holds the whole address, with whatever was asked for in it.
        raise connection_failure(error) from None


def connection_failure(error: Exception) -> ConnectionFailed:
    """Say what happened on the network.

    Args:
        error: what requests or urllib3 raised.

    Returns:
        The exception to raise; `request_sent` is False only when the connection was never made.
    """
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(reason, SSLError) and reason.args and isinstance(reason.args[0], ssl.SSLCertVerificationError):
        return CertificateRefused(
            "Certificate refused", "it is not trusted; check the connection's host", request_sent=False
        )
    if isinstance(error, requests.ConnectTimeout) or isinstance(reason, ConnectTimeoutError):
        return ConnectionFailed("No connection", "connecting took too long", request_sent=False)
    if isinstance(reason, NewConnectionError):
        return ConnectionFailed("No connection", "refused, or the host is not known", request_sent=False)
    if isinstance(error, requests.Timeout):
        return ConnectionFailed("No reply", "the reply did not come in time")
    return ConnectionFailed("Connection lost", f"before the whole reply was read ({type(error).__name__})")
