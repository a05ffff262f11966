"""The sandbox's page: what it holds, what was sent last, batches, counters and the mails it would have sent."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from include.sandbox.account import STORE_ENTITIES
from include.sandbox.state import Sandbox

_STYLE = """
:root { color-scheme: light; font: 15px/1.45 system-ui, sans-serif; color: #1d2733; background: #f6f7f9; }
body { max-width: 76rem; margin: 2rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.02rem; margin: 0 0 .6rem; }
p { margin: .25rem 0 1.4rem; color: #5b6876; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(32rem, 100%), 1fr)); gap: 1rem; }
section { background: #fff; border: 1px solid #dfe3e8; border-radius: .5rem; padding: 1rem 1.1rem; overflow-x: auto; }
section.wide { grid-column: 1 / -1; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .28rem .9rem .28rem 0; border-bottom: 1px solid #eef0f3; white-space: nowrap; }
th { font-weight: 600; color: #5b6876; font-size: .86rem; } tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; } .empty { color: #8a95a1; margin: 0; }
"""


def _cell(tag: str, value: object) -> str:
    number = isinstance(value, int) and not isinstance(value, bool)
    text = f"{value:,}" if number else escape(str(value))
    return f'<{tag} class="number">{text}</{tag}>' if number else f"<{tag}>{text}</{tag}>"


def _section(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]], empty: str, wide: bool = False) -> str:
    listed = list(rows)
    if listed:
        first = listed[0]
        head = "".join(
            f'<th scope="col"{" class=number" if isinstance(value, int) else ""}>{escape(name)}</th>'
            for name, value in zip(heads, first, strict=True)
        )
        body = "".join(f"<tr>{''.join(_cell('td', value) for value in row)}</tr>" for row in listed)
        content = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    else:
        content = f'<p class="empty">{escape(empty)}</p>'
    return f"<section{' class=wide' if wide else ''}><h2>{escape(title)}</h2>{content}</section>"


def render(sandbox: Sandbox) -> str:
    """Return the page as HTML without outside assets; it loads itself anew every 3 seconds."""
    state, requests = sandbox.overview(digests=False), sandbox.requests()
    with sandbox.account.lock:
        recent = list(sandbox.account.recent)[::-1]
        mails = list(sandbox.account.mails)[-8:][::-1]
    deliveries = list(sandbox.deliveries.log)[-8:][::-1]
    batches = list(sandbox.batches.batches.values())[-8:][::-1]
    sections = [
        _section(
            "Stores",
            ("store", "audience", "syncing", *(entity.replace("_", " ") for entity in STORE_ENTITIES)),
            _stores(state),
            "No store yet.",
            wide=True,
        ),
        _section("Audiences", ("audience", "name", "members by status"), _audiences(state), "No audience.", wide=True),
        _section("Requests", ("counter", "value"), _counters(requests), ""),
        _section(
            "Latest records",
            ("change", "kind", "id", "store"),
            ((verb, kind, one, store) for verb, store, kind, one in recent),
            "Nothing was sent yet.",
        ),
        _section(
            "Mails it would have sent",
            ("time", "mail", "for"),
            ((mail["at"], mail["kind"], mail["record_id"]) for mail in mails),
            "None.",
        ),
        _section(
            "Webhook deliveries",
            ("event", "contact", "status", "attempts", "answer"),
            ((one.type, one.member_id, one.status, one.attempts, one.http_status) for one in deliveries),
            "None.",
        ),
        _section(
            "Batches",
            ("batch", "status", "operations", "finished", "errors", "submitted", "completed"),
            (
                (one.id, one.status, one.total, one.finished, one.errored, one.submitted_at, one.completed_at)
                for one in batches
            ),
            "No batch yet.",
            wide=True,
        ),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="3">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Mailchimp sandbox</title>'
        f"<style>{_STYLE}</style></head><body><h1>Mailchimp sandbox</h1>"
        "<p>A Mailchimp Marketing API on this machine. Nothing leaves it and no mail is sent. "
        '<a href="/sandbox/people">Act as a contact or the marketer</a></p>'
        f"<main>{''.join(sections)}</main></body></html>"
    )


def _stores(state: dict[str, Any]) -> Iterable[Sequence[object]]:
    for store_id, store in state["stores"].items():
        counts = store["counts"]
        syncing = "yes" if store["is_syncing"] else "no"
        yield store_id, store["list_id"], syncing, *(counts[entity] for entity in STORE_ENTITIES)


def _audiences(state: dict[str, Any]) -> Iterable[Sequence[object]]:
    for list_id, audience in state["lists"].items():
        members = ", ".join(f"{number:,} {status}" for status, number in sorted(audience["members"].items()))
        yield list_id, audience["name"], members or "none"


def _counters(requests: dict[str, Any]) -> Iterable[Sequence[object]]:
    yield "API calls", requests["calls"]
    yield "batch operations", requests["operations"]
    yield "failed operations", requests["failed_operations"]
    yield "refused or failed calls", requests["errors"]
    yield "throttled calls (429)", requests["throttled"]
    yield "most calls at once", requests["most_active"]
