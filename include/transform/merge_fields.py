"""Merge fields: the audience's own fields of a contact, filled from columns of the ``customers`` extract.

One value that the audience's definition doesn't allow makes Mailchimp refuse the whole contact (API reference, "Add or
update list member"; contract of this project, members: "wrong type → 400"), and a tag that the audience doesn't have is
dropped silently. So values are checked here against the definitions that the run has read: an unusable value is left
out of the document, and only one of a required field costs the contact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.config.stores import StoreSettings
from include.documents.encoder import to_arrow
from include.documents.spec import Object, Text
from include.transform.audience import Audience, MergeField
from include.transform.records import TEXT
from include.transform.rules import ErrorClass, Rule

#: The name in the setting ``merge_fields`` that stands for the whole address instead of a column.
WHOLE_ADDRESS: Final = "address"
_ADDRESS_TYPE = "address"
#: The parts of an address field, by the columns of the address; Mailchimp refuses one without those in `_NEEDED`.
_PARTS = {
    "addr1": "address1",
    "addr2": "address2",
    "city": "city",
    "state": "province",
    "zip": "postal_code",
    "country": "country_code",
}
_NEEDED = ("addr1", "city", "state", "zip")

_LONGEST_TEXT = 255
_NUMBER = r"-?\d+(\.\d+)?"
_URL = r"https?://[^/\s]+\S*"
_ZIP = r"[0-9A-Za-z][0-9A-Za-z -]{2,9}"


@dataclass(frozen=True)
class _Mapped:
    """A merge field that is sent: its definition, and the column it is filled from."""

    field: MergeField
    column: str

    @property
    def name(self) -> str:
        return f"merge_fields.{self.field.tag}"

    @property
    def parts(self) -> tuple[str, ...]:
        """The columns that the document reads."""
        if self.column == WHOLE_ADDRESS:
            return tuple(f"{self.name}.{part}" for part in _PARTS)
        return (self.name,)


def document(settings: StoreSettings, audience: Audience | None) -> Object:
    """Declare the merge fields of a member document; it reads the columns that `columns` makes.

    An emptied value is not spelled out: what the shop doesn't know may have come from the contact itself.
    """
    return Object("merge_fields", tuple(_declared(field) for field in _mapped(settings, audience)))


def columns(
    people: pd.DataFrame,
    places: dict[str, pd.Series],
    withheld: pd.Series,
    settings: StoreSettings,
    audience: Audience | None,
) -> dict[str, pd.Series]:
    """Derive the merge fields' values, null where there is none or it can't be used.

    Args:
        people: with the columns that the setting names.
        places: their addresses, as `include.transform.addresses.customer_columns` returns them.
        withheld: true for people of whom nothing but the first name is sent.
        settings: ``merge_fields``.
        audience: whose definitions count; None: all mapped fields exist and are texts.
    """
    values: dict[str, pd.Series] = {}
    for field in _mapped(settings, audience):
        kept = ~withheld if field.column != "first_name" else pd.Series(True, withheld.index)
        if field.column == WHOLE_ADDRESS:
            found = _address(places)
        else:
            found = [_usable(_text(people[field.column]), field.field)]
        values |= {name: value.where(kept) for name, value in zip(field.parts, found, strict=True)}
    return values


def rules(
    people: pd.DataFrame, subscribing: pd.Series, settings: StoreSettings, audience: Audience | None
) -> list[Rule]:
    """Return the rules for required fields.

    Args:
        people: with the columns that `columns` has made.
        subscribing: true for those of whom merge fields are sent.
        settings: ``merge_fields``.
        audience: whose definitions count.
    """
    return [
        Rule(
            people[field.parts[0]].isna() & subscribing,
            ErrorClass.MISSING_VALUE,
            field.name,
            "Required merge field empty",
            f"the audience requires {field.field.tag}, but {field.column} is empty, of another kind, or withheld by "
            "the setting guests; fill it in in the shop, or make the field optional at Mailchimp",
        )
        for field in _mapped(settings, audience)
        if field.field.required
    ]


def problems(settings: StoreSettings, audience: Audience | None) -> list[str]:
    """Tell what of the mapping can't work with an audience, as sentences for whoever runs the store.

    Args:
        settings: ``merge_fields``.
        audience: as the run found it; None: nothing is known, so nothing is wrong.
    """
    if audience is None:
        return []
    fields = {field.tag: field for field in audience.merge_fields}
    found = []
    for tag, column in settings.merge_fields.items():
        if tag not in fields:
            found.append(
                f"merge field {tag} isn't in the audience, so {column} isn't sent; "
                "add the field at Mailchimp, or take it out of merge_fields"
            )
        elif not _fits(fields[tag], column):
            found.append(
                f"merge field {tag} is of type {fields[tag].type} in the audience, which {column} can't fill; "
                f"type address goes with {WHOLE_ADDRESS}, every other type with a column"
            )
    unfilled = [
        field.tag for field in audience.merge_fields if field.required and field.tag not in settings.merge_fields
    ]
    found += [
        f"the audience requires merge field {tag}, which merge_fields doesn't fill, so Mailchimp refuses new contacts; "
        "name a column for it, or make it optional at Mailchimp"
        for tag in unfilled
    ]
    return found


def _mapped(settings: StoreSettings, audience: Audience | None) -> Iterator[_Mapped]:
    known = {field.tag: field for field in audience.merge_fields} if audience else None
    for tag, column in settings.merge_fields.items():
        assumed = MergeField(tag, _ADDRESS_TYPE if column == WHOLE_ADDRESS else "text")
        field = assumed if known is None else known.get(tag)
        if field is not None and _fits(field, column):
            yield _Mapped(field, column)


def _fits(field: MergeField, column: str) -> bool:
    return (field.type == _ADDRESS_TYPE) == (column == WHOLE_ADDRESS)


def _declared(field: _Mapped) -> Text | Object:
    if field.column != WHOLE_ADDRESS:
        return Text(field.field.tag, field.name, clears=False)
    parts = (Text(part, name, clears=False) for part, name in zip(_PARTS, field.parts, strict=True))
    return Object(field.field.tag, tuple(parts))


def _address(places: dict[str, pd.Series]) -> list[pd.Series]:
    """Return the parts of the address, of complete ones only."""
    found = {part: _text(places[f"address_{column}"]) for part, column in _PARTS.items()}
    found["state"] = _text(places["address_province_code"]).fillna(found["state"])
    complete = pd.concat([found[part].notna() for part in _NEEDED], axis=1).all(axis=1)
    return [value.where(complete) for value in found.values()]


def _text(values: pd.Series) -> pd.Series:
    """Write a column of any kind as text without spaces around it; null where nothing is left."""
    column = to_arrow(values)
    if pa.types.is_timestamp(column.type):
        seconds = pc.cast(pc.floor_temporal(column, unit="second"), pa.timestamp("s", "UTC"))
        column = pc.strftime(seconds, format="%Y-%m-%dT%H:%M:%S+00:00")
    text = pd.Series(pc.cast(column, pa.string()), index=values.index, dtype=TEXT).str.strip()
    return text.where(text != "")


def _usable(values: pd.Series, field: MergeField) -> pd.Series:
    """Bring values into the form that a field's type has, null where that can't be done."""
    match field.type:
        case "number":
            return _matching(values, _NUMBER)
        case "zip":
            return _matching(values, _ZIP)
        case "date":
            return _formatted(values.str.slice(0, 10), "%Y-%m-%d")
        case "birthday":
            days = _formatted(values.str.slice(0, 10), "%Y-%m-%d")
            days = days.str.slice(5).str.replace("-", "/", regex=False)
            leap_year = _formatted("2000/" + values, "%Y/%m/%d")
            return days.fillna(leap_year.str.slice(5))
        case "dropdown" | "radio":
            return values.where(values.isin(field.choices))
        case "url" | "imageurl":
            return _matching(values, _URL).where(values.str.len() <= _LONGEST_TEXT)
        case _:
            return values.str.slice(0, _LONGEST_TEXT)


def _matching(values: pd.Series, pattern: str) -> pd.Series:
    return values.where(values.str.fullmatch(pattern).fillna(False).astype(bool))


def _formatted(values: pd.Series, pattern: str) -> pd.Series:
    """Keep dates that exist and are written exactly so; parsing alone takes February 30 for March 2."""
    texts = to_arrow(values)
    dates = pc.strptime(texts, format=pattern, unit="s", error_is_null=True)
    exact = pc.equal(pc.strftime(dates, format=pattern), texts)
    return pd.Series(pc.if_else(exact, texts, pa.scalar(None, pa.string())), index=values.index, dtype=TEXT)
