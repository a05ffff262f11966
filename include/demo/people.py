"""Invented people: customers, their addresses and newsletter consents."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from include.demo.columns import DAY, SECOND, Flags, Integers, integers, microseconds, random, times
from include.demo.planted import BROKEN_EMAILS

#: Households have ids up to 2,500, planted customers from 90,001.
FIRST_GUEST: Final = 100_001
MAIL_DOMAIN = "mail.completejourney-shop.dev"

_FIRST_NAMES = (
    "Ada Alice Amir Anna Ben Bianca Carlos Chen Chloé Daniel Elena Emil Fatima Felix Grace Hana Hugo Ingrid Ivan Jack "
    "Jürgen Kenji Laura Leo Lucía Maja Marco Mei Nadia Noah Olga Oscar Priya Quinn Rosa Samuel Søren Tara Umar Vera "
    "Walter Ximena Yusuf Zoe"
).split()
_LAST_NAMES = (
    "Adams Bauer Becker Brown Chen Costa Dubois Evans Fischer García Hansen Hughes Ivanov Jensen Johnson Kim Kowalski "
    "Lee López Martin Meyer Müller Nakamura Nguyen Novák O'Brien Okafor Patel Pérez Quist Rossi Sato Schmidt Silva "
    "Smith Suzuki Taylor Usman Vogel Wagner Weiß Xu Young Zhang"
).split()
#: First and last names that break careless quoting and escaping, for every so-many-th customer.
_HOSTILE_NAMES = (
    ("Robert'); DROP TABLE", 'O\'Neil "Bobby"'),
    ("Zoë 🌻", "Müller-Lüdenscheidt"),
    ("back\\slash", "C:\\new\\table"),
    ("line\nbreak", "tab\there"),
    ("<b>Bold</b>", "Smith & Sons"),
    ("محمد", "李小龍"),
    ("e\u0301tude", "null"),
    ("{{name}}", "*|FNAME|*"),
)
_HOSTILE_EVERY = 37
_UPPER_CASE_EVERY = 41
_SECOND_ADDRESS_EVERY = 10
#: The newsletters that people choose, and how many of those who opted in do.
_GROUPS = (("Weekly offers", 0.6), ("Recipes", 0.3))
#: City, state, code, ZIP code.
_PLACES = (
    ("Cincinnati", "Ohio", "OH", "45202"),
    ("Columbus", "Ohio", "OH", "43215"),
    ("Louisville", "Kentucky", "KY", "40202"),
    ("Nashville", "Tennessee", "TN", "37201"),
    ("Denver", "Colorado", "CO", "80202"),
    ("Portland", "Oregon", "OR", "97204"),
    ("Atlanta", "Georgia", "GA", "30303"),
    ("Houston", "Texas", "TX", "77002"),
    ("Boston", "Massachusetts", "MA", "02108"),
)
_STREETS = ("Main Street", "Oak Avenue", "2nd Street", "Cañon Drive", "Kings Rd.", "Rue d'Orléans", "Lake\nShore Drive")


def build_people(household_ids: Integers, guests_seen_at: Integers, until: datetime) -> dict[str, pa.Table]:
    """Build the tables `customers`, `addresses`, `newsletter_consents` and `newsletter_groups`.

    Args:
        household_ids: customers with an account.
        guests_seen_at: when each guest ordered, in µs; guests get the ids from `FIRST_GUEST` on, in this order.
        until: the shop's newest moment.
    """
    planted = np.array(list(BROKEN_EMAILS))
    guests = np.arange(FIRST_GUEST, FIRST_GUEST + len(guests_seen_at))
    ids = np.concatenate([household_ids, planted, guests])
    is_guest = ids >= FIRST_GUEST
    end = microseconds(until)
    members = int((~is_guest).sum())
    joined_at = end - (400 + ids[:members] % 700) * DAY - (ids[:members] * 37 % 86_400) * SECOND
    created_at = np.concatenate([joined_at, guests_seen_at])
    addresses, default_address, changed_at = _addresses(ids, created_at)
    consents, decided_at = _consents(ids, created_at, end)
    updated_at = np.minimum(np.maximum(changed_at, decided_at), end)
    return {
        "customers": _customers(ids, is_guest, created_at, updated_at, default_address),
        "addresses": addresses,
        "newsletter_consents": consents,
        "newsletter_groups": _groups(consents),
    }


def _names(ids: Integers, is_guest: Flags) -> tuple[list[str | None], list[str | None]]:
    generator = random(3)
    first: list[str | None] = [_FIRST_NAMES[i] for i in generator.integers(0, len(_FIRST_NAMES), len(ids))]
    last: list[str | None] = [_LAST_NAMES[i] for i in generator.integers(0, len(_LAST_NAMES), len(ids))]
    unnamed = generator.random(len(ids))
    for row, customer_id in enumerate(ids):
        if customer_id % _HOSTILE_EVERY == 0:
            first[row], last[row] = _HOSTILE_NAMES[customer_id // _HOSTILE_EVERY % len(_HOSTILE_NAMES)]
        elif is_guest[row] and unnamed[row] < 0.4:
            last[row] = None if unnamed[row] < 0.3 else ""
            first[row] = None if unnamed[row] < 0.1 else first[row]
    return first, last


def _email(customer_id: int, first: str | None, last: str | None) -> str:
    if customer_id in BROKEN_EMAILS:
        return BROKEN_EMAILS[customer_id]
    names = [re.sub(r"[^a-z]", "", (name or "").lower()) for name in (first, last)]
    address = ".".join([*filter(None, names), str(customer_id)]) + "@" + MAIL_DOMAIN
    return address.title() if customer_id % _UPPER_CASE_EVERY == 0 else address


def _customers(
    ids: Integers, is_guest: Flags, created_at: Integers, updated_at: Integers, default_address: Integers
) -> pa.Table:
    first, last = _names(ids, is_guest)
    emails = [_email(int(customer_id), *name) for customer_id, *name in zip(ids, first, last, strict=True)]
    generator = random(4)
    has_company = generator.random(len(ids)) < 0.05
    has_phone = generator.random(len(ids)) < 0.6
    language = np.array(["en", "en", "en", "es", "de", "fr"])[generator.integers(0, 6, len(ids))]
    phone = "+1 513 555 " + pd.Series(100 + ids % 100).astype(str).str.zfill(4)
    return pa.table(
        {
            "customer_id": ids,
            "email": emails,
            "first_name": pa.array(first, pa.string()),
            "last_name": pa.array(last, pa.string()),
            "company": pa.array(pd.Series(last).fillna("Corner").where(has_company) + " & Co.", pa.string()),
            "phone": pa.array(phone.where(has_phone), pa.string()),
            "language": pa.array(language, pa.string()),
            "is_guest": is_guest,
            "default_address_id": integers(default_address, absent=default_address == 0),
            "created_at": times(created_at),
            "updated_at": times(updated_at),
        }
    )


def _addresses(ids: Integers, created_at: Integers) -> tuple[pa.Table, Integers, Integers]:
    """The address table, each customer's default address (0: none), and when each customer's addresses last changed."""
    generator = random(5)
    housed = generator.random(len(ids)) >= 0.03
    default_address = np.where(housed, ids * 10 + 1, 0)
    second = ids[housed & (ids % _SECOND_ADDRESS_EVERY == 0)]
    owners = np.concatenate([ids[housed], second])
    address_ids = np.concatenate([ids[housed] * 10 + 1, second * 10 + 2])
    place = np.array(_PLACES)[generator.integers(0, len(_PLACES), len(owners))]
    incomplete = generator.random(len(owners)) < 0.01
    house = pd.Series(1 + owners % 990).astype(str)
    street = np.array(_STREETS)[generator.integers(0, len(_STREETS), len(owners))]
    flat = ("Apt. " + pd.Series(1 + owners % 60).astype(str)).where(owners % 7 == 0)
    table = pa.table(
        {
            "address_id": address_ids,
            "customer_id": owners,
            "name": pa.array("Household " + pd.Series(owners).astype(str), pa.string()),
            "address1": pa.array(house + " " + street, pa.string()),
            "address2": pa.array(flat, pa.string()),
            "city": pa.array(place[:, 0], pa.string(), mask=incomplete),
            "province": pa.array(place[:, 1], pa.string()),
            "province_code": pa.array(place[:, 2], pa.string()),
            "postal_code": pa.array(place[:, 3], pa.string(), mask=incomplete),
            "country": pa.array(np.full(len(owners), "United States"), pa.string()),
            "country_code": pa.array(np.full(len(owners), "US"), pa.string()),
        }
    )
    moved = created_at + generator.integers(0, 300, len(ids)) * DAY
    return table, default_address, np.where(ids >= FIRST_GUEST, created_at, moved)


def _consents(ids: Integers, created_at: Integers, end: int) -> tuple[pa.Table, Integers]:
    """The consent history and when each customer last decided (when they were created if they never did)."""
    generator = random(6)
    mood = generator.random(len(ids)) + np.where(ids >= FIRST_GUEST, 0.25, 0.0)
    agreed, withdrew, refused = mood < 0.45, (mood >= 0.45) & (mood < 0.55), (mood >= 0.55) & (mood < 0.65)
    first_at = np.minimum(created_at + generator.integers(0, 3_600, len(ids)) * SECOND, end)
    second_at = np.minimum(first_at + generator.integers(1, 300, len(ids)) * DAY, end)
    decided = agreed | withdrew | refused
    owners = np.concatenate([ids[decided], ids[withdrew]])
    count = len(owners)
    source = np.array(["checkout", "account", "footer form"])[generator.integers(0, 3, count)]
    ip = ("192.0.2." + pd.Series(owners % 254 + 1).astype(str)).where(generator.random(count) < 0.8)
    table = pa.table(
        {
            "consent_id": np.arange(1, count + 1),
            "customer_id": owners,
            "opted_in": np.concatenate([~refused[decided], np.zeros(int(withdrew.sum()), dtype=bool)]),
            "recorded_at": times(np.concatenate([first_at[decided], second_at[withdrew]])),
            "source": pa.array(source, pa.string()),
            "ip": pa.array(ip, pa.string()),
        }
    )
    return table, np.where(withdrew, second_at, np.where(decided, first_at, created_at))


def _groups(consents: pa.Table) -> pa.Table:
    """Who once opted in may have chosen newsletters: one, both, or none."""
    owners = np.unique(consents["customer_id"].to_numpy()[consents["opted_in"].to_numpy()])
    generator = random(9)
    chosen = [(name, owners[generator.random(len(owners)) < share]) for name, share in _GROUPS]
    return pa.table(
        {
            "customer_id": np.concatenate([ids for _, ids in chosen]),
            "group_name": np.repeat([name for name, _ in chosen], [len(ids) for _, ids in chosen]).tolist(),
        }
    )
