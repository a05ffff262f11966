"""The sandbox's own page and endpoint on which somebody acts as a contact or the marketer: /sandbox/people.

``POST /sandbox/people/<action>`` takes the fields of ``Deed`` as JSON (or, from the page, as a form) and answers with
the contact's id and status. ``GET /sandbox/webhooks`` shows what was delivered.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from html import escape
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urlencode

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.sandbox import people
from include.sandbox.account import Account
from include.sandbox.audiences import subscriber_hash
from include.sandbox.problems import Problem
from include.sandbox.state import Sandbox

_FORM: Final = "application/x-www-form-urlencoded"


class Deed(BaseModel):
    """What somebody does; which fields count depends on the action.

    Attributes:
        list_id: the audience; without it the first one.
        email: the contact.
        new_email: of ``change-address``.
        reason: of ``unsubscribe``.
        merge_fields: of ``change-profile``, by tag.
        interests: of ``choose-groups``: by id, true or false.
        vip: of ``mark-vip``.
        contacts: of ``import``: each with ``email_address``, ``merge_fields``, ``interests``.
        status: of ``import``: of those who are new.
        update_existing: of ``import``.
        groups: of ``add-groups``: names by title of the category.
        at: when it happened; without it now.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    list_id: str = ""
    email: str = ""
    new_email: str = ""
    reason: str = ""
    merge_fields: dict[str, Any] = Field(default_factory=dict)
    interests: dict[str, bool] = Field(default_factory=dict)
    vip: bool = True
    contacts: list[dict[str, Any]] = Field(default_factory=list)
    status: Annotated[str, Field(pattern="^(subscribed|unsubscribed|pending|transactional|cleaned)$")] = "subscribed"
    update_existing: bool = False
    groups: dict[str, list[str]] = Field(default_factory=dict)
    at: datetime | None = None


Action = Callable[[Account, str, Deed], Any]

ACTIONS: Final[Mapping[str, Action]] = {
    "subscribe": lambda account, list_id, deed: people.subscribe(account, list_id, deed.email, deed.at),
    "unsubscribe": lambda account, list_id, deed: people.unsubscribe(
        account, list_id, deed.email, deed.reason, deed.at
    ),
    "bounce": lambda account, list_id, deed: people.bounce(account, list_id, deed.email, deed.at),
    "complain": lambda account, list_id, deed: people.complain(account, list_id, deed.email, deed.at),
    "change-profile": lambda account, list_id, deed: people.change_profile(
        account, list_id, deed.email, deed.merge_fields, deed.at
    ),
    "choose-groups": lambda account, list_id, deed: people.choose_groups(
        account, list_id, deed.email, deed.interests, deed.at
    ),
    "change-address": lambda account, list_id, deed: people.change_address(
        account, list_id, deed.email, deed.new_email, deed.at
    ),
    "unsubscribe-by-marketer": lambda account, list_id, deed: people.unsubscribe_by_marketer(
        account, list_id, deed.email, deed.at
    ),
    "archive": lambda account, list_id, deed: people.archive(account, list_id, deed.email, deed.at),
    "delete": lambda account, list_id, deed: people.delete(account, list_id, deed.email),
    "mark-vip": lambda account, list_id, deed: people.mark_vip(account, list_id, deed.email, deed.vip, deed.at),
    "import": lambda account, list_id, deed: {
        "contacts": people.import_contacts(account, list_id, deed.contacts, deed.status, deed.update_existing, deed.at)
    },
    "add-groups": lambda account, list_id, deed: {"groups": people.add_groups(account, list_id, deed.groups)},
}
# Those that a form with an address, a second one and a reason is enough for.
_ON_PAGE: Final = (
    "subscribe",
    "unsubscribe",
    "bounce",
    "complain",
    "change-address",
    "unsubscribe-by-marketer",
    "archive",
    "delete",
)


def add_control(app: FastAPI, sandbox: Sandbox) -> None:
    """Add the page and the endpoints to the application."""

    @app.get("/sandbox/webhooks")
    def webhooks() -> dict[str, Any]:
        return sandbox.deliveries.overview()

    @app.get("/sandbox/people", response_class=HTMLResponse)
    def page(done: str = "") -> str:
        with sandbox.account.lock:
            lists = {one: (sandbox.account.lists.get(one) or {})["name"] for one in sandbox.account.lists}
        return _page(lists, done)

    @app.post("/sandbox/people/{action}")
    async def act(action: str, request: Request) -> Response:
        body = await request.body()
        is_form = request.headers.get("content-type", "").startswith(_FORM)
        status, answer = await run_in_threadpool(_act, sandbox, action, body, is_form)
        if is_form:
            told = answer.get("detail") or f"Done; the contact is {answer.get('status')} now."
            return RedirectResponse("/sandbox/people?" + urlencode({"done": told}), status_code=303)
        return JSONResponse(answer, status_code=status)


def _act(sandbox: Sandbox, action: str, body: bytes, is_form: bool) -> tuple[int, dict[str, Any]]:
    account = sandbox.account
    fields = dict(parse_qsl(body.decode(errors="replace"))) if is_form else {}
    action = fields.pop("action", action)
    if action not in ACTIONS:
        return 404, {"detail": f"There is no action of this name; there are {', '.join(ACTIONS)}."}
    try:
        deed = Deed.model_validate(fields) if is_form else Deed.model_validate_json(body or b"{}")
    except ValidationError as error:
        wrong = ", ".join(".".join(str(part) for part in one["loc"]) or "body" for one in error.errors())
        return 400, {"detail": f"These fields don't fit: {wrong}."}
    with account.lock:
        list_id = deed.list_id or next(iter(account.lists), "")
        try:
            made = ACTIONS[action](account, list_id, deed)
        except Problem as problem:
            return problem.status, {"detail": problem.detail}
        except KeyError as missing:
            return 400, {"detail": f"A field is missing: {missing}."}
        member_id = subscriber_hash(deed.new_email or deed.email)
        member = account.audience_for(list_id).members.get(member_id)
    sandbox.save()
    if made is not None:
        return 200, dict(made)
    return 200, {"list_id": list_id, "member_id": member_id, "status": member["status"] if member else "deleted"}


_PAGE_STYLE = """
:root { color-scheme: light; font: 15px/1.45 system-ui, sans-serif; color: #1d2733; background: #f6f7f9; }
body { max-width: 34rem; margin: 2rem auto; padding: 0 1.25rem; } h1 { font-size: 1.4rem; margin: 0; }
form { background: #fff; border: 1px solid #dfe3e8; border-radius: .5rem; padding: 1rem 1.1rem; margin: 1rem 0; }
label { display: block; margin: 0 0 .8rem; color: #5b6876; font-size: .86rem; }
input, select { display: block; width: 100%; box-sizing: border-box; font: inherit; padding: .35rem .5rem; }
button { font: inherit; padding: .4rem 1rem; } [role=status] { font-weight: 600; min-height: 1.4em; }
"""


def _page(lists: Mapping[str, str], done: str) -> str:
    audiences = "".join(f'<option value="{escape(one)}">{escape(name)}</option>' for one, name in lists.items())
    actions = "".join(f"<option>{one}</option>" for one in _ON_PAGE)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>People of the sandbox</title>'
        f"<style>{_PAGE_STYLE}</style></head><body><h1>What people do</h1>"
        f'<p>As a contact or the marketer would at Mailchimp itself. <a href="/">Back to the sandbox</a></p>'
        f'<p role="status">{escape(done)}</p><form method="post" action="/sandbox/people/form">'
        f'<label>Audience<select name="list_id">{audiences}</select></label>'
        f'<label>What happens<select name="action">{actions}</select></label>'
        '<label>E-mail address<input name="email" type="email" required></label>'
        '<label>New address (change-address only)<input name="new_email" type="email"></label>'
        '<label>Reason (unsubscribe only)<input name="reason"></label>'
        "<button>Do it</button></form></body></html>"
    )
