"""Results of a batch: a tar.gz archive with every quirk of the real ones, behind links that are signed and expire."""

import base64
import gzip
import hashlib
import hmac
import io
import itertools
import json
import random
import secrets
import tarfile
import time
from collections.abc import Sequence
from urllib.parse import parse_qsl, quote

RESULTS_PATH = "/sandbox/results"
_FILE_RESULTS = 200


def entry(status: int, operation_id: str | None, response: bytes) -> str:
    """Return one result as JSON: the response is text inside JSON, "" for a 204."""
    name = "null" if operation_id is None else json.dumps(operation_id)
    return f'{{"status_code":{status},"operation_id":{name},"response":{json.dumps(response.decode())}}}'


def build_archive(batch_id: str, entries: Sequence[str], chance: random.Random) -> bytes:
    """Return the archive: shuffled results over one or more files, a directory entry and at times an empty file."""
    shuffled = list(entries)
    chance.shuffle(shuffled)
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        folder = tarfile.TarInfo(f"{batch_id}/")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        parts = [shuffled[start : start + _FILE_RESULTS] for start in range(0, len(shuffled), _FILE_RESULTS)]
        if chance.random() < 0.5:
            parts.insert(0, [])
        for number, part in enumerate(parts):
            content = f"[{','.join(part)}]".encode() if part else chance.choice((b"", b"[]"))
            member = tarfile.TarInfo(f"{batch_id}/{batch_id}-{number}.json")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Links:
    """Makes and checks links to results; valid for ``seconds``, and only as they were given out."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._secret = secrets.token_bytes(32)
        self._serial = itertools.count(1)

    def url(self, base_url: str, batch_id: str) -> str:
        """Return a new link; its signature breaks when a client decodes it."""
        access = f"sandbox-{next(self._serial)}"
        expires = f"{time.time() + self._seconds:.3f}"
        signature = quote(self._sign(batch_id, access, expires), safe="")
        query = f"GoogleAccessId={access}&Expires={expires}&Signature={signature}"
        return f"{base_url}{RESULTS_PATH}/{batch_id}-response.tar.gz?{query}"

    def refusal(self, batch_id: str, raw_query: str, authorised: bool) -> str | None:
        """Return why the storage would refuse this download (its error code), or None."""
        fields = dict(parse_qsl(raw_query))
        access, expires = fields.get("GoogleAccessId", ""), fields.get("Expires", "")
        expected = self._sign(batch_id, access, expires)
        if not hmac.compare_digest(expected.encode(), fields.get("Signature", "").encode()):
            return "SignatureDoesNotMatch"
        if time.time() > float(expires):
            return "ExpiredToken"
        return "InvalidArgument" if authorised else None

    def _sign(self, batch_id: str, access: str, expires: str) -> str:
        # Begins with the characters that a client must not decode: a bare "+" in a query means a space.
        digest = hmac.new(self._secret, f"{batch_id} {access} {expires}".encode(), hashlib.sha256).digest()
        return "+/" + base64.b64encode(digest).decode()
