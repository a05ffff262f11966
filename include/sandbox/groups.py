"""Groups of an audience: /lists/{id}/interest-categories[/{id}[/interests[/{id}]]].

Who belongs to a group is written through the ``interests`` of the member.
"""

import secrets

from include.mailchimp.contract import Interest, InterestCategory
from include.sandbox.account import Audience
from include.sandbox.exchange import Call, Routes, existing, page
from include.sandbox.problems import bad_request, invalid_resource, not_found
from include.sandbox.records import Document


def merged_interests(audience: Audience, known: dict[str, bool], sent: dict[str, bool]) -> dict[str, bool]:
    """Merge what a member was sent into what it has, group by group.

    Raises:
        Problem: 400 for a group that the audience doesn't have (text inferred).
    """
    for interest_id in sent:
        if interest_id not in audience.records["interests"]:
            raise invalid_resource(f"Invalid interest ID: '{interest_id}'.")
    return known | sent


def new_category(audience: Audience, document: Document) -> str:
    """Create a category and return its id."""
    category_id = secrets.token_hex(5)
    audience.records["categories"].put(category_id, document)
    return category_id


def new_interest(audience: Audience, category_id: str, document: Document) -> str:
    """Create a group of a category and return its id."""
    interest_id = secrets.token_hex(5)
    audience.records["interests"].put(interest_id, {**document, "category_id": category_id})
    return interest_id


def _render_category(audience: Audience, category_id: str) -> Document:
    stored = existing(audience.records["categories"], category_id)
    return {
        "list_id": audience.id,
        "id": category_id,
        "title": stored["title"],
        "display_order": stored.get("display_order", 0),
        "type": stored["type"],
    }


def _render_interest(audience: Audience, interest_id: str) -> Document:
    stored = existing(audience.records["interests"], interest_id)
    return {
        "category_id": stored["category_id"],
        "list_id": audience.id,
        "id": interest_id,
        "name": stored["name"],
        "subscriber_count": str(audience.chosen[interest_id]),
        "display_order": stored.get("display_order", 0),
    }


def _interests_of(audience: Audience, category_id: str) -> list[str]:
    interests = audience.records["interests"]
    return [one for one in interests if existing(interests, one)["category_id"] == category_id]


def _category(call: Call) -> str:
    """Return the id of the path's category; 404 when there is none."""
    existing(call.audience.records["categories"], call.ids["category_id"])
    return call.ids["category_id"]


def _interest(call: Call) -> str:
    """Return the id of the path's interest; 404 when the category has none of that id."""
    interest_id = call.ids["interest_id"]
    if existing(call.audience.records["interests"], interest_id)["category_id"] != _category(call):
        raise not_found()
    return interest_id


def list_categories(call: Call) -> Document:
    """GET /lists/{id}/interest-categories."""
    audience = call.audience
    ids = list(audience.records["categories"])
    return page(call, "categories", ids, lambda one: _render_category(audience, one), {"list_id": audience.id})


def create_category(call: Call) -> Document:
    """POST /lists/{id}/interest-categories (text for a taken title inferred)."""
    audience, document = call.audience, call.sent(InterestCategory)
    categories = audience.records["categories"]
    if any(existing(categories, one)["title"] == document["title"] for one in categories):
        raise bad_request(f'An interest category with the title "{document["title"]}" already exists for this list.')
    return _render_category(audience, new_category(audience, document))


def get_category(call: Call) -> Document:
    """GET /lists/{id}/interest-categories/{category_id}."""
    return _render_category(call.audience, _category(call))


def update_category(call: Call) -> Document:
    """PATCH /lists/{id}/interest-categories/{category_id}."""
    audience, category_id = call.audience, _category(call)
    categories = audience.records["categories"]
    categories.put(category_id, existing(categories, category_id) | call.sent(InterestCategory))
    return _render_category(audience, category_id)


def delete_category(call: Call) -> None:
    """DELETE /lists/{id}/interest-categories/{category_id}: its groups go too."""
    audience, category_id = call.audience, _category(call)
    for interest_id in _interests_of(audience, category_id):
        audience.records["interests"].remove(interest_id)
    audience.records["categories"].remove(category_id)


def list_interests(call: Call) -> Document:
    """GET …/interests of a category."""
    audience, category_id = call.audience, _category(call)
    extra = {"list_id": audience.id, "category_id": category_id}
    ids = _interests_of(audience, category_id)
    return page(call, "interests", ids, lambda one: _render_interest(audience, one), extra)


def create_interest(call: Call) -> Document:
    """POST …/interests (text for a taken name inferred)."""
    audience, category_id, document = call.audience, _category(call), call.sent(Interest)
    interests = audience.records["interests"]
    if any(existing(interests, one)["name"] == document["name"] for one in _interests_of(audience, category_id)):
        raise bad_request(f'An interest with the name "{document["name"]}" already exists in this category.')
    return _render_interest(audience, new_interest(audience, category_id, document))


def get_interest(call: Call) -> Document:
    """GET …/interests/{interest_id}."""
    return _render_interest(call.audience, _interest(call))


def update_interest(call: Call) -> Document:
    """PATCH …/interests/{interest_id}."""
    audience, interest_id = call.audience, _interest(call)
    interests = audience.records["interests"]
    interests.put(interest_id, existing(interests, interest_id) | call.sent(Interest))
    return _render_interest(audience, interest_id)


def delete_interest(call: Call) -> None:
    """DELETE …/interests/{interest_id}."""
    audience, interest_id = call.audience, _interest(call)
    audience.records["interests"].remove(interest_id)


_CATEGORIES = "/lists/{list_id}/interest-categories"
_INTERESTS = _CATEGORIES + "/{category_id}/interests"
ROUTES: Routes = {
    _CATEGORIES: {"GET": list_categories, "POST": create_category},
    _CATEGORIES + "/{category_id}": {"GET": get_category, "PATCH": update_category, "DELETE": delete_category},
    _INTERESTS: {"GET": list_interests, "POST": create_interest},
    _INTERESTS + "/{interest_id}": {"GET": get_interest, "PATCH": update_interest, "DELETE": delete_interest},
}
