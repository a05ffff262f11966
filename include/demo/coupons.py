"""Coupons and their codes: the most redeemed ones of the data set, and invented ones of every kind there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.demo.columns import DAY, Integers, money, times
from include.demo.purchases import read_source

WELCOME_CODE: Final = "WELCOME10"
#: For discounts of baskets whose coupon the data set doesn't name.
PAPER_CODE: Final = "PAPER-COUPON"
#: Coupons taken from the data set, all fixed amounts. With the invented ones there are forty.
_REDEEMED: Final = 30
_SINGLE_USE_CODES: Final = 200


@dataclass(frozen=True, slots=True)
class _Coupon:
    """An invented coupon; `hundredths` are cents or hundredths of a percent, days are counted from the shop's end."""

    codes: tuple[str, ...]
    description: str
    type: str
    target: str
    hundredths: int
    starts: int | None = None
    ends: int | None = None
    enabled: bool = True
    minimum_cents: int | None = None
    first_order_only: bool = False


_SINGLE_USE: Final = tuple(f"SORRY-{number * 7_919 % 1_000_003:06d}" for number in range(1, _SINGLE_USE_CODES + 1))
_INVENTED: Final = (
    _Coupon((WELCOME_CODE,), "Welcome: 10 % off", "percentage", "total", 1_000),
    _Coupon((PAPER_CODE,), "Paper coupon", "fixed", "total", 100),
    _Coupon(("FREESHIP", "SHIPFREE"), "Free shipping", "fixed", "shipping", 0, -90, 365),
    _Coupon(("SHIP2LESS",), "2 dollars off the shipping", "fixed", "shipping", 200, -300, -200),
    _Coupon(
        ("HALFSHIP",),
        "Half the shipping – “while it lasts”",
        "percentage",
        "shipping",
        5_000,
        -30,
        400,
        minimum_cents=3_000,
    ),
    _Coupon(("PANTRY15", "PANTRY-15"), "15 % off every piece", "percentage", "per_item", 1_500, -60, 300),
    _Coupon(("SUMMER25",), "Summer is over: 25 % off", "percentage", "per_item", 2_500, -150, -60, enabled=False),
    _Coupon(("BULK5",), "5 dollars off from 100 dollars", "fixed", "total", 500, -120, 500, minimum_cents=10_000),
    _Coupon(("FIRST20",), "First order: 20 % off", "percentage", "total", 2_000, first_order_only=True),
    _Coupon(_SINGLE_USE, "An apology, one code per person", "fixed", "total", 750, -45, 320),
)


def coupon_code(upcs: pd.Series) -> pd.Series:
    """The code of a coupon of the data set."""
    return "CJ" + upcs.astype(str)


def build_coupons(shift: int, end: int) -> dict[str, pa.Table]:
    """Build the tables `coupons` and `coupon_codes`.

    Args:
        shift: µs from the source's time to the shop's.
        end: the shop's newest moment, in µs.
    """
    redeemed = _most_redeemed(shift)
    invented = pd.DataFrame([*_INVENTED])
    count, more = len(redeemed), len(invented)
    starts_at = np.concatenate([redeemed["starts_at"], end + invented["starts"].fillna(0) * DAY]).astype(np.int64)
    ends_at = np.concatenate([redeemed["ends_at"], end + invented["ends"].fillna(0) * DAY]).astype(np.int64)
    dated = np.ones(count, dtype=bool)
    changed_at = np.where(np.concatenate([dated, invented["starts"].notna()]), starts_at, redeemed["starts_at"].min())
    minimum = invented["minimum_cents"]
    coupons = pa.table(
        {
            "coupon_id": np.arange(1, count + more + 1),
            "title": pa.array([*redeemed["title"], *invented["description"]], pa.string()),
            "description": pa.array([*redeemed["description"], *invented["description"]], pa.string()),
            "type": ["fixed"] * count + [*invented["type"]],
            "target": [*np.where(np.arange(count) % 2 == 0, "per_item", "total"), *invented["target"]],
            "amount": money(np.concatenate([redeemed["cents"], invented["hundredths"]])),
            "minimum_order_total": pa.concat_arrays(
                [pa.nulls(count, pa.decimal128(14, 2)), _where(money(_whole(minimum)), minimum.notna())]
            ),
            "first_order_only": np.concatenate([~dated, invented["first_order_only"]]),
            "starts_at": times(starts_at, absent=np.concatenate([~dated, invented["starts"].isna()])),
            "ends_at": times(ends_at, absent=np.concatenate([~dated, invented["ends"].isna()])),
            "is_enabled": np.concatenate([dated, invented["enabled"]]),
            "updated_at": times(np.minimum(changed_at, end)),
        }
    )
    return {"coupons": coupons, "coupon_codes": _codes(redeemed, invented["codes"])}


def _most_redeemed(shift: int) -> pd.DataFrame:
    """The data set's coupons that were redeemed most often, by UPC; what they are worth is invented."""
    redemptions = read_source("coupon_redemptions", ["coupon_upc"]).to_pandas()
    uses = redemptions["coupon_upc"].value_counts().rename("uses").rename_axis("coupon_upc").reset_index()
    most = uses.sort_values(["uses", "coupon_upc"], ascending=[False, True]).head(_REDEEMED)
    campaigns = read_source("campaign_descriptions").to_pandas()
    coupons = read_source("coupons", ["coupon_upc", "campaign_id"]).to_pandas().drop_duplicates("coupon_upc")
    found = most.merge(coupons, on="coupon_upc").merge(campaigns, on="campaign_id")
    found = found.sort_values("coupon_upc", ignore_index=True)
    return found.assign(
        code=coupon_code(found["coupon_upc"]),
        title="Campaign " + found["campaign_id"].astype(str),
        description="Coupon of campaign " + found["campaign_id"].astype(str),
        cents=50 + found["coupon_upc"] % 6 * 25,
        starts_at=found["start_date"].astype("datetime64[us]").astype("int64") + shift,
        ends_at=found["end_date"].astype("datetime64[us]").astype("int64") + shift,
    )


def _codes(redeemed: pd.DataFrame, invented: pd.Series) -> pa.Table:
    """One to three codes each; the first of a redeemed coupon is the one on the orders."""
    position = np.arange(len(redeemed))
    parts = [redeemed.assign(coupon_id=position + 1, suffix="")]
    for number, suffix in ((1, "-B"), (2, "-C")):
        parts.append(parts[0][position % 3 >= number].assign(suffix=suffix, uses=0))
    printed = pd.concat(parts, ignore_index=True)
    own = pd.DataFrame({"coupon_id": np.arange(len(invented)) + len(redeemed) + 1, "code": invented}).explode("code")
    every = pd.concat([printed.assign(code=printed["code"] + printed["suffix"]), own], ignore_index=True)
    return pa.table(
        {
            "code_id": np.arange(1, len(every) + 1),
            "coupon_id": every["coupon_id"].to_numpy(dtype=np.int64),
            "code": pa.array(every["code"], pa.string()),
            "usage_count": every["uses"].fillna(0).to_numpy(dtype=np.int64),
            "is_enabled": ~every["code"].str.endswith("-C").to_numpy(dtype=bool),
        }
    )


def _whole(values: pd.Series) -> Integers:
    return values.fillna(0).to_numpy(dtype=np.int64)


def _where(values: pa.Array, present: pd.Series) -> pa.Array:
    return pc.if_else(pa.array(present), values, None)
