from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

import pytest

from include.mailchimp.archive import OperationResult, read_results
from include.mailchimp.errors import ArchiveTruncated


def pack(*members: tuple[str, bytes | None]) -> bytes:
    """A tar.gz; None as content makes a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def entries(*found: Any) -> bytes:
    return json.dumps(list(found)).encode()


def entry(operation_id: str | None, status: Any = 200, response: Any = "{}") -> dict[str, Any]:
    return {"status_code": status, "operation_id": operation_id, "response": response}


def read(content: bytes) -> list[OperationResult]:
    return list(read_results(io.BytesIO(content)))


def test_all_members_are_read_and_the_odd_ones_tolerated() -> None:
    archive = pack(
        ("batch", None),
        ("batch/a.json", entries(entry("1"), entry(None, 200, "{}"))),
        ("batch/empty.json", b""),
        ("batch/blank.json", b" \n"),
        ("batch/none.json", b"[]"),
        ("batch/null.json", b"null"),
        ("batch/readme.txt", b"not for us {"),
        ("batch/b.JSON", b"\xef\xbb\xbf" + entries(entry("2", 204, ""), entry("3", 400, '{"title":"Bad Request"}'))),
        ("one.json", json.dumps(entry("4", "404", None)).encode()),
    )
    assert [(result.operation_id, result.status_code, result.response) for result in read(archive)] == [
        ("1", 200, "{}"),
        (None, 200, "{}"),
        ("2", 204, ""),
        ("3", 400, '{"title":"Bad Request"}'),
        ("4", 404, ""),
    ]


def test_responses_of_every_shape_become_text() -> None:
    document = {"title": "Bad Request", "detail": "größer"}
    html = "<H1>Bad Request</H1>"
    texts = [
        result.response
        for result in read(
            pack(
                (
                    "a.json",
                    entries(
                        entry("once", 400, json.dumps(document)),
                        entry("twice", 400, json.dumps(json.dumps(document))),
                        entry("not at all", 400, document),
                        entry("page", 403, html),
                        entry("quote", 500, '"unfinished'),
                    ),
                )
            )
        )
    ]
    assert [json.loads(text) for text in texts[:3]] == [document] * 3
    assert texts[3:] == [html, '"unfinished']


def test_a_member_encoded_twice() -> None:
    archive = pack(("a.json", json.dumps(entries(entry("1")).decode()).encode()))
    assert [result.operation_id for result in read(archive)] == ["1"]


@pytest.mark.parametrize("bad", ["text", 3, None, [], {"operation_id": "x"}, entry("x", "oops"), entry("x", None)])
def test_an_entry_that_makes_no_sense_is_no_success(bad: Any) -> None:
    results = read(pack(("a.json", entries(bad, entry("good")))))
    assert results[0].status_code == 0
    assert results[1] == OperationResult("good", 200, "{}")


def test_every_truncation_is_noticed() -> None:
    archive = pack(("a.json", entries(*(entry(str(number)) for number in range(50)))), ("b.json", entries(entry("x"))))
    for length in [0, 1, 10, len(archive) // 2, len(archive) - 9, len(archive) - 8, len(archive) - 1]:
        with pytest.raises(ArchiveTruncated):
            read(archive[:length])


@pytest.mark.parametrize(
    "content",
    [
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        gzip.compress(b"this is not a tar file at all" * 40),
        gzip.compress(b""),
        pack(("a.json", b'[{"operation_id": "ada@shop.de"')),
        pack(("a.json", b"\xff\xfe\x00")),
        pack(("a.json", b"[" * 100_000)),
    ],
    ids=["an error page", "no archive", "nothing", "half a document", "no text", "too deep"],
)
def test_damage_is_reported_without_content(content: bytes) -> None:
    with pytest.raises(ArchiveTruncated) as caught:
        read(content)
    assert "ada" not in str(caught.value)
    assert caught.value.transient


def test_a_flipped_bit_is_noticed() -> None:
    archive = bytearray(pack(("a.json", entries(*(entry(str(number)) for number in range(500))))))
    archive[-6] ^= 1
    with pytest.raises(ArchiveTruncated):
        read(bytes(archive))


def test_members_are_streamed_one_at_a_time() -> None:
    """The first member's results arrive although the rest of the archive is missing; nothing needs to seek."""
    # Random-looking ids do not pack well, so that the second half of the archive is the second member.
    members = [
        (f"{name}.json", entries(*(entry(str(hash((name, number)))) for number in range(3000)))) for name in "ab"
    ]
    archive = pack(*members)

    class Pipe(io.RawIOBase):
        source = io.BytesIO(archive[: int(len(archive) * 0.7)])

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            data = self.source.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)

    results = read_results(io.BufferedReader(Pipe()))
    first = [next(results) for _ in range(3000)]
    assert len(first) == 3000
    with pytest.raises(ArchiveTruncated):
        list(results)


def test_personal_data_is_not_in_the_repr() -> None:
    assert "ada" not in repr(OperationResult("1", 400, "ada@shop.de is already a list member"))
