"""Reads the result archive of a batch: a gzip-packed tar of one or more ``.json`` members.

Each member is a JSON array of ``{status_code, operation_id, response}`` in which `response` is JSON text again. Seen in
the wild and accepted: directory entries, empty members, ``[]``, results in any order and spread over members, a null
`operation_id`, an empty `response` (204), responses that are HTML, responses encoded twice.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from include.mailchimp.errors import ArchiveTruncated

_CHUNK = 1 << 16


@dataclass(frozen=True)
class OperationResult:
    """The outcome of one operation.

    Attributes:
        operation_id: as we named the operation; None when the archive does not say.
        status_code: HTTP status; 0 when the archive's entry cannot be understood.
        response: the reply's text, for 2xx usually JSON, ``""`` for 204; not part of the repr, it holds personal data.
    """

    operation_id: str | None
    status_code: int
    response: str

    def __repr__(self) -> str:
        return f"OperationResult({self.operation_id}, {self.status_code})"


def read_results(stream: BinaryIO) -> Iterator[OperationResult]:
    """Stream the outcomes out of an archive, one member in memory at a time.

    Args:
        stream: the archive, from its beginning; need not be seekable.

    Yields:
        One outcome per entry, in the archive's order, which is not the order of the request.

    Raises:
        ArchiveTruncated: the archive ends early, fails its checksum or holds something that is not JSON. Outcomes
            yielded before are good; download it again by a new link for the rest.
    """
    member_name = ""
    try:
        with gzip.GzipFile(fileobj=stream, mode="rb") as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r|") as archive:
                for member in archive:
                    member_name = member.name
                    content = archive.extractfile(member) if _holds_results(member) else None
                    if content is not None:
                        yield from _results_in(_read_whole(content.read(), member.size))
            while unpacked.read(_CHUNK):
                pass  # tar stops before the end of the file, where gzip's checksum is
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ArchiveTruncated("Results truncated", f"{type(error).__name__} while unpacking the archive") from error
    except (ValueError, RecursionError):
        # `from None`: a JSON error quotes the text.
        raise ArchiveTruncated("Results damaged", f"member {member_name} of the archive is not JSON") from None


def _holds_results(member: tarfile.TarInfo) -> bool:
    return member.isfile() and member.name.lower().endswith(".json")


def _read_whole(content: bytes, size: int) -> bytes:
    if len(content) < size:
        raise EOFError
    return content


def _results_in(content: bytes) -> Iterator[OperationResult]:
    text = content.decode("utf-8-sig").strip()
    if not text:
        return
    entries = json.loads(text)
    if isinstance(entries, str):
        entries = json.loads(entries)
    if entries is None:
        return
    yield from map(_result, entries if isinstance(entries, list) else [entries])


def _result(entry: Any) -> OperationResult:
    if not isinstance(entry, dict):
        return OperationResult(None, 0, "")
    operation_id, status = entry.get("operation_id"), entry.get("status_code")
    try:
        status_code = int(status) if isinstance(status, (int, str)) else 0
    except ValueError:
        status_code = 0
    return OperationResult(
        None if operation_id is None else str(operation_id), status_code, _response_text(entry.get("response"))
    )


def _response_text(response: Any) -> str:
    """The reply's own text: an object that was not encoded is encoded, one that was encoded twice is decoded once."""
    if response is None:
        return ""
    if not isinstance(response, str):
        return json.dumps(response)
    if response[:1] == '"':
        try:
            inner = json.loads(response)
        except ValueError:
            return response
        return inner if isinstance(inner, str) else response
    return response
