"""One API call, however it arrived (HTTP or an operation in a batch): request, reply, routes, paging, filters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from include.sandbox.account import Account, Audience, Store
from include.sandbox.problems import Problem, bad_request, from_validation, not_found
from include.sandbox.records import Document, Records

MAX_COUNT = 1000
DEFAULT_COUNT = 10

Model = TypeVar("Model", bound=BaseModel)


@dataclass
class Call:
    """An API request as the handlers see it; ``ids`` are the path's placeholders."""

    account: Account
    method: str
    body: bytes | str = b""
    query: Mapping[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    options: frozenset[str] = frozenset()
    base_url: str = ""

    @property
    def store(self) -> Store:
        """The store of the path; 404 when there is none."""
        store_id = self.ids["store_id"]
        if store_id not in self.account.store_settings:
            raise not_found()
        return self.account.store_for(store_id)

    @property
    def audience(self) -> Audience:
        """The audience of the path; 404 when there is none."""
        list_id = self.ids["list_id"]
        if list_id not in self.account.lists:
            raise not_found()
        return self.account.audience_for(list_id)

    def parse(self, model: type[Model]) -> Model:
        """Validate the body; raises the Problem that Mailchimp would answer."""
        try:
            return model.model_validate_json(self.body or b"{}")
        except ValidationError as error:
            raise from_validation(error) from None

    def sent(self, model: type[BaseModel]) -> Document:
        """Validate the body and return the documented properties that it carries."""
        return self.parse(model).model_dump(exclude_unset=True)

    def check_id(self, document: Document, expected: str) -> None:
        """Refuse a body whose id differs from the path's (inferred: certainly a mistake of the caller)."""
        if document.get("id", expected) != expected:
            raise bad_request("The id in the request body does not match the resource.")


Handler = Callable[[Call], Document | None]
"""Answers a call with the document of a 200, or None for a 204."""

_SELF_LOCKING: set[Handler] = set()


def self_locking(handler: Handler) -> Handler:
    """Mark a handler that takes the account's lock itself, because it does something slow without it."""
    _SELF_LOCKING.add(handler)
    return handler


def lock_for(handler: Handler, account: Account) -> AbstractContextManager[Any]:
    """Return what has to be held while a handler runs."""
    return nullcontext() if handler in _SELF_LOCKING else account.lock


Routes = Mapping[str, Mapping[str, Handler]]
"""Path template → method → handler."""


def existing(records: Records, record_id: str) -> Document:
    """Return a record's document or raise the 404."""
    document = records.get(record_id)
    if document is None:
        raise not_found()
    return document


def page(
    call: Call,
    name: str,
    ids: Sequence[str],
    render: Callable[[str], Document],
    extra: Mapping[str, Any] | None = None,
) -> Document:
    """Return one page of a collection: ``{<name>: […], total_items}`` by ``count`` (≤ 1000) and ``offset``."""
    start, end = bounds(call)
    items = [render(record_id) for record_id in ids[start:end]]
    return {name: items, **(extra or {}), "total_items": len(ids)}


def bounds(call: Call) -> tuple[int, int]:
    """Return the positions at which the page that was asked for starts and ends."""
    count = _number(call.query, "count", DEFAULT_COUNT)
    offset = _number(call.query, "offset", 0)
    if count > MAX_COUNT:
        raise bad_request(f"The count parameter must not be greater than {MAX_COUNT}.")
    return offset, offset + count


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit():
        raise bad_request(f"The {name} parameter must be a whole number that is not negative.")
    return int(text)


def filtered(document: Document, query: Mapping[str, str]) -> Document:
    """Apply ``fields`` and ``exclude_fields`` (comma lists of dotted paths, the collection's name included).

    Raises:
        Problem: 422 Requested Fields Invalid for a name that the document does not have at its top level.
    """
    if query.get("fields"):
        document = _only(document, _tree(_known(document, query["fields"].split(","))))
    if query.get("exclude_fields"):
        document = _without(document, _tree(_known(document, query["exclude_fields"].split(","))))
    return document


def _known(document: Document, paths: list[str]) -> list[str]:
    unknown = [path for path in paths if path.split(".")[0] not in document and not path.startswith("_links")]
    if unknown:
        detail = f"The requested fields do not exist on this resource: {', '.join(unknown)}"
        raise Problem(422, "Requested Fields Invalid", detail)
    return paths


Tree = dict[str, Any]


def _tree(paths: Iterable[str]) -> Tree:
    """Nest dotted paths; a leaf (empty dict) means the whole value."""
    root: Tree = {}
    for path in sorted(paths, key=len, reverse=True):
        *parents, leaf = path.split(".")
        node = root
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = {}
    return root


def _only(value: Any, tree: Tree) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_only(item, tree) for item in value]
    if isinstance(value, dict):
        return {name: _only(value[name], branch) for name, branch in tree.items() if name in value}
    return value


def _without(value: Any, tree: Tree) -> Any:
    if isinstance(value, list):
        return [_without(item, tree) for item in value]
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if tree.get(name, True)}
        return {name: _without(item, tree[name]) if name in tree else item for name, item in kept.items()}
    return value
