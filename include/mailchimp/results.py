"""Downloads the result archive of a batch from the storage that Mailchimp's signed link points to.

The link is a secret for about 10 minutes: it is used as it is (decoding it breaks the signature), never logged, and
gets no credentials of ours: neither the API key nor anything a `.netrc` file holds for that host.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import requests
from urllib3.exceptions import HTTPError, IncompleteRead, ProtocolError

from include.mailchimp.errors import ArchiveTruncated, ResultLinkExpired, ServerError, Throttled, UnexpectedReply
from include.mailchimp.retry import RetryPolicy
from include.mailchimp.transport import connection_failure, send

_CHUNK = 1 << 18
_KEPT_IN_MEMORY = 8 << 20
_LINK_REFUSED = {400, 401, 403, 404, 410}


class _Anonymous(requests.auth.AuthBase):
    """Adds nothing. Being set, it also keeps requests from looking into `.netrc`."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


@contextmanager
def open_results(
    url: str,
    api_session: requests.Session,
    timeout: tuple[float, float],
    retry: RetryPolicy,
    sleep: Callable[[float], None],
    count: Callable[[int], None],
) -> Iterator[BinaryIO]:
    """Download an archive completely, then hand it out, so that nobody works on half of it.

    Args:
        url: the signed link.
        api_session: whose proxies and certificates (not credentials) are used.
        timeout: seconds to connect, seconds between two bytes.
        retry: how failures of the network are repeated.
        sleep: waits between repeats.
        count: told the size in bytes of every download.

    Yields:
        A binary stream at its beginning.

    Raises:
        ResultLinkExpired: the storage refuses the link.
        ArchiveTruncated: the connection ended early.
        UnexpectedReply: the link is not a web address or redirects.
    """
    with tempfile.SpooledTemporaryFile(max_size=_KEPT_IN_MEMORY) as spool, _anonymous_session(api_session) as session:
        archive = cast(BinaryIO, spool)

        def fetch() -> int:
            archive.seek(0)
            archive.truncate()
            return _download(session, url, timeout, archive)

        count(retry.run(fetch, method="GET", path="(batch results)", sleep=sleep))
        archive.seek(0)
        yield archive


def _anonymous_session(api_session: requests.Session) -> requests.Session:
    session = requests.Session()
    session.auth = _Anonymous()
    session.proxies = api_session.proxies
    session.verify = api_session.verify
    session.trust_env = api_session.trust_env
    # The archive is packed already; without this, storage may unpack it on the way.
    session.headers["Accept-Encoding"] = "gzip"
    return session


def _download(session: requests.Session, url: str, timeout: tuple[float, float], target: BinaryIO) -> int:
    try:
        request = session.prepare_request(requests.Request("GET", url))
    except (requests.RequestException, ValueError):
        raise UnexpectedReply("Unexpected reply", "the link to the batch's results is not a web address") from None
    request.url = url
    with send(session, request, timeout=timeout, stream=True) as reply:
        _check(reply.status_code)
        size = 0
        try:
            # Undecoded: a Content-Encoding of gzip is the archive's own packing.
            for chunk in reply.raw.stream(_CHUNK, decode_content=False):
                target.write(chunk)
                size += len(chunk)
        except (IncompleteRead, ProtocolError):
            raise ArchiveTruncated("Results truncated", f"the connection ended after {size} bytes") from None
        except (HTTPError, OSError) as error:
            raise connection_failure(error) from None
    return size


def _check(status: int) -> None:
    if status == 200:
        return
    if status in _LINK_REFUSED:
        raise ResultLinkExpired("Link expired", "get the batch again for a new link to its results", status=status)
    if status == 429:
        raise Throttled("Too Many Requests", "from the storage of batch results", status=status)
    if status >= 500:
        raise ServerError("Server error", "from the storage of batch results", status=status)
    raise UnexpectedReply("Unexpected reply", "to the download of batch results", status=status)
