"""Asks Mailchimp's login service for the datacentre of an OAuth token, which the token itself doesn't name.

Reference: Mailchimp's guide "Access user data with OAuth 2", GET ``/oauth2/metadata``.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from requests import Request, Session

from include.mailchimp.errors import ConnectionFailed
from include.mailchimp.transport import send

log = logging.getLogger(__name__)

METADATA_URL = "https://login.mailchimp.com/oauth2/metadata"
_TIMEOUT = (10.0, 30.0)

# By the token's digest, for the life of the process: a datacentre is asked for once, not for each call.
_known: dict[str, str] = {}


def api_endpoint(token: str, transport: dict[str, Any]) -> str | None:
    """Return the address of the API that an OAuth token belongs to.

    :param token: the token.
    :param transport: the connection's `proxies`, `verify`, `cert` and `trust_env`, where given.
    :return: such as ``https://us6.api.mailchimp.com``; None when the login service doesn't know the token, or doesn't
        answer.
    """
    digest = hashlib.sha256(token.encode()).hexdigest()
    if digest not in _known:
        found = _ask(token, transport)
        if found is None:
            return None
        _known[digest] = found
    return _known[digest]


def _ask(token: str, transport: dict[str, Any]) -> str | None:
    with Session() as session:
        for name, value in transport.items():
            setattr(session, name, value)
        request = session.prepare_request(Request("GET", METADATA_URL))
        request.headers["Authorization"] = f"OAuth {token}"  # after what requests may have found in a .netrc
        try:
            reply = send(session, request, timeout=_TIMEOUT)
            endpoint = reply.json().get("api_endpoint") if reply.status_code == 200 else None
        except (ConnectionFailed, ValueError, AttributeError) as error:
            log.warning("Mailchimp's login service was asked for the datacentre of the token: %s", type(error).__name__)
            return None
    if not endpoint:
        log.warning("Mailchimp's login service does not know the token (status %d)", reply.status_code)
    return str(endpoint) if endpoint else None
