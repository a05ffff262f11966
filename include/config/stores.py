"""The settings: which stores there are and how each is synchronised, from one YAML file."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from include.config.mistakes import told
from include.config.yaml_file import YamlUnreadable, did_you_mean, read_yaml

STORES_FILE_VARIABLE: Final = "STORES_FILE"
DEFAULT_STORES_FILE: Final = Path(__file__).with_name("stores.yaml")

_CRON_FIELDS = 5
_DAY = timedelta(days=1)

#: What a schedule may be called instead of a cron expression; besides these, `never`.
INTERVALS: Final = {
    **{f"{minutes}m": timedelta(minutes=minutes) for minutes in (1, 10, 15, 30)},
    **{f"{hours}h": timedelta(hours=hours) for hours in (1, 2, 4, 6, 12)},
    **{"1d": _DAY, "2d": 2 * _DAY, "5d": 5 * _DAY, "1w": 7 * _DAY},
}

#: Addresses that are not the buyer's own, or nobody's: marketplaces hide buyers behind relays and forbid marketing to
#: them; role accounts are refused by Mailchimp or reach a department.
RELAYS_AND_ROLES: Final = (
    "*@marketplace.amazon.*",
    "*@members.ebay.*",
    "*@*.walmart.com",
    "*@guest.booking.com",
    "abuse@*",
    "noreply@*",
    "no-reply@*",
    "postmaster@*",
    "spam@*",
)

#: The templates among the settings and what each may contain.
_PLACEHOLDERS: Final = {
    "product_url_template": ("product_id", "handle"),
    "checkout_url_template": ("checkout_token", "cart_id"),
    "redemption_url_template": ("code",),
}

_ConnId = Annotated[str, Field(min_length=1)]
_CLASS_PATH: Final = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"


class SettingsError(ValueError):
    """The settings file is wrong. One error lists every problem; each names store, setting, reason and remedy."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n  - ".join([f"The settings in {path} can't be used:", *self.problems]))


class Notifier(BaseModel):
    """A way to tell people what happened to runs: one of Airflow's notifiers, or one of your own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    notifier: str = Field(
        pattern=_CLASS_PATH,
        description="Its class, for example airflow.providers.smtp.notifications.smtp.SmtpNotifier.",
    )
    kwargs: dict[str, Any] = Field(
        default={},
        description="What it is made with, for example to: ops@example.com. Subject and text are filled in; to write "
        "your own, use {{ alert.subject }}, {{ alert.text }}, {{ alert.html }} and {{ alert.link }}.",
    )


class StoreSettings(BaseModel):
    """One Mailchimp e-commerce store and the shop it is filled from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: str = Field(
        pattern=r"^[a-z0-9_]+$",
        max_length=50,
        description="Short name of the store in DAG ids, state and logs; never change it once records are sent.",
    )
    store_id: str = Field(
        min_length=1, max_length=50, description="Id of the e-commerce store at Mailchimp; created when missing."
    )
    list_id: str = Field(min_length=1, description="Id of the existing Mailchimp audience that the store belongs to.")
    profile: str = Field(
        pattern=r"^[a-z0-9_]+$", description="Shop profile: the folder under include/shops with the shop's SQL."
    )
    mailchimp_conn_id: _ConnId = Field(default="mailchimp", description="Airflow connection of the Mailchimp account.")
    shop_conn_id: _ConnId = Field(default="shop_db", description="Airflow connection of the shop's database.")
    enabled: bool = Field(default=True, description="Whether the store gets DAGs.")
    owner: str = Field(default="data-engineering", min_length=1, description="Owner shown on the store's DAGs.")
    schedule_push: str | None = Field(
        default="*/15 * * * *",
        description="When to push: a cron expression (UTC), or how often: 1m, 10m, 15m, 30m, 1h, 2h, 4h, 6h, 12h, 1d, "
        "2d, 5d or 1w; never (or null): only when triggered by hand.",
    )
    schedule_pull: str | None = Field(
        default="10m",
        description="When to read from Mailchimp what contacts and marketers changed there: the same choices as for "
        "the push; null: only by hand.",
    )
    webhooks: bool = Field(
        default=False,
        description="Whether Mailchimp's calls to /mailchimp/webhooks/<key> at Airflow's API server are taken, and the "
        "contacts they are about read at once; the pull goes on as before.",
    )
    schedule_campaigns: str | None = Field(
        default="6h",
        description="When to read what campaigns achieved: the same choices as for the push; null: only by hand.",
    )
    activity_update_interval_days: int = Field(
        default=90,
        ge=0,
        description="How long after it was sent a campaign's activity (opens, clicks …) is read; 0: never. Its figures "
        "are always read.",
    )
    on_remote_archive: Literal["unsubscribe", "keep"] = Field(
        default="unsubscribe",
        description="What a subscriber who was archived at Mailchimp is in the shop: opted out, or as before.",
    )
    two_way_sync: bool = Field(
        default=False,
        description="Whether an opt-in that is newer than the other side's opt-out is told too: one at Mailchimp to "
        "the shop, one in the shop to Mailchimp, which asks the contact for a confirmation.",
    )
    sync_priority: Literal["remote_wins", "local_wins"] = Field(
        default="remote_wins",
        description="With two_way_sync, what counts when both sides changed without knowing of each other and the "
        "opt-in is the newer change: what Mailchimp says, or what the shop says. Otherwise an opt-out always counts.",
    )
    ecommerce: bool = Field(
        default=True,
        description="Whether products, customers, carts, orders and coupons are sent; without, only subscriptions.",
    )
    guests: Literal["first_name_only", "full", "skip"] = Field(
        default="first_name_only",
        description="What is sent of buyers without an account: e-mail and first name (no address, not in their orders "
        "either), everything, or nothing at all.",
    )
    order_statuses: list[str] | None = Field(
        default=None,
        min_length=1,
        description="The shop's own statuses of orders to send; null: those that the profile marks as completed.",
    )
    order_upsert: Literal["auto", "put", "post_patch"] = Field(
        default="auto",
        description="How orders are written: PUT, POST and then PATCH, or found out by one attempt and remembered.",
    )
    exclude_emails: list[str] = Field(
        default=list(RELAYS_AND_ROLES),
        description="Patterns (with * and ?) of addresses to leave out, with their carts, orders and subscriptions.",
    )
    currency_policy: Literal["order", "store"] = Field(
        default="order",
        description="Amounts of an order in its own currency, or only orders in the store's: no rates are invented.",
    )
    prices: Literal["gross", "net"] | None = Field(
        default=None, description="Whether line prices include tax, for checking totals; null: either may add up."
    )
    abandoned_carts: Literal["all", "subscribed", "none"] = Field(
        default="all", description="Whose open carts are sent: everybody's, only of customers who opted in, or none."
    )
    cart_idle_minutes: int = Field(default=15, ge=0, description="How long a cart is left alone before it is sent.")
    cart_max_age_days: int = Field(default=30, ge=1, description="How long after its last change a cart is given up.")
    checkout_url_template: str | None = Field(
        default=None, description="Address that restores a cart, with {checkout_token} or {cart_id} in it."
    )
    coupons: Literal["all", "matching_only"] = Field(
        default="all",
        description="Which coupons are sent: all, or those without conditions that Mailchimp can't express.",
    )
    max_codes_per_rule: int | None = Field(
        default=None, ge=1, description="Codes of one coupon that are sent at most (single-use codes); null: all."
    )
    redemption_url_template: str | None = Field(
        default=None, description="Address that applies a coupon where the profile yields none, with {code} in it."
    )
    opt_in: Literal["follow_audience", "single", "double"] = Field(
        default="follow_audience",
        description="How a stored opt-in becomes a subscription: as the audience is set up, at once, or after the "
        "contact confirms Mailchimp's mail.",
    )
    always_opt_in: bool = Field(
        default=False,
        description="Subscribe new contacts who were never asked. Check that the law allows it where you sell.",
    )
    selection: Literal["many", "one"] = Field(
        default="many", description="How many of the audience's groups a contact may choose."
    )
    merge_fields: dict[str, str] = Field(
        default={"FNAME": "first_name", "LNAME": "last_name"},
        description="The audience's merge fields by tag, each with the column of the customers extract that fills it; "
        "address stands for the whole address.",
    )
    tags: dict[str, str] = Field(
        default={}, description="Tags, each with a SELECT that yields the customer_id of everybody who has it."
    )
    segments: dict[str, str] = Field(
        default={}, description="Static segments, each with a SELECT that yields the customer_id of its members."
    )
    max_new_subscribers: int | None = Field(
        default=None,
        ge=0,
        description="A run that would subscribe more new contacts stops and asks in the Airflow UI; null: never asks.",
    )
    max_deletes: int = Field(
        default=1000, ge=0, description="A run that would delete more records of one kind at Mailchimp deletes none."
    )
    max_deletes_percent: float = Field(
        default=10,
        ge=0,
        le=100,
        strict=False,
        description="The same as a share of the records Mailchimp holds, in %; ten records are always allowed.",
    )
    schedule_full_sync: str | None = Field(
        default=None,
        description="When to run the full sync, which also finds what was deleted: the same choices as for the push; "
        "null: only by hand.",
    )
    schedule_reconcile: str | None = Field(
        default=None,
        description="When to compare shop, ledger and Mailchimp, which reads all that Mailchimp holds and only "
        "reports: the same choices as for the push, 1w suits most stores; null: only by hand.",
    )
    product_url_template: str | None = Field(
        default=None,
        description="Address of a product's page where the profile yields none, with {product_id} or {handle} in it.",
    )
    max_rejected_percent: float = Field(
        default=5, ge=0, le=100, strict=False, description="Share of rejected records above which a run fails, in %."
    )
    notify: list[Notifier] = Field(
        default=[],
        description="Who is told when runs fail, are late, or succeed again: Airflow notifiers by class, each with its "
        "kwargs. One message per incident, however many runs fail for the same reason.",
    )
    deadline_minutes: int | None = Field(
        default=None,
        ge=1,
        description="How long after it was queued a run counts as late: Browse → Deadlines shows it, notify tells it; "
        "null: never.",
    )
    max_connections: int = Field(
        default=4, ge=1, le=10, description="Simultaneous requests to the Mailchimp account, which allows 10 in all."
    )
    batch_operations: int = Field(
        default=500, ge=1, le=1000, description="Operations in one batch; Mailchimp documents 1000 as the most."
    )
    batch_bytes: int = Field(default=5_000_000, ge=100_000, description="Size of one batch's request body, in bytes.")
    max_open_batches: int = Field(default=4, ge=1, le=500, description="Batches that may be unfinished at one time.")
    slice_records: int = Field(default=20_000, ge=1, description="Records that one task of a push run handles.")
    window_overlap_minutes: int = Field(
        default=10, ge=0, description="How far a run reaches back into its predecessor's window, for late commits."
    )
    batch_timeout_minutes: int = Field(
        default=360, ge=1, description="How long to wait for a batch before its records count as unknown."
    )
    request_timeout_seconds: float = Field(
        default=60, gt=0, le=120, strict=False, description="How long to wait for a reply; Mailchimp gives up at 120 s."
    )

    @field_validator(
        "schedule_push", "schedule_full_sync", "schedule_reconcile", "schedule_pull", "schedule_campaigns", mode="after"
    )
    @classmethod
    def _cron_interval_or_never(cls, value: str | None) -> str | None:
        if value is None or value.lower() == "never":
            return None
        if value in INTERVALS or len(value.split()) == _CRON_FIELDS:
            return value
        raise ValueError(
            f'is no cron expression of five fields, such as "*/15 * * * *", and none of {", ".join(INTERVALS)}; '
            "for no schedule write never"
        )

    @field_validator(*_PLACEHOLDERS, mode="after")
    @classmethod
    def _known_placeholders(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        names = _PLACEHOLDERS[str(info.field_name)]
        known = " and ".join(f"{{{name}}}" for name in names)
        try:
            example = value.format(**dict.fromkeys(names, "1"))
        except (KeyError, IndexError, ValueError, AttributeError):
            raise ValueError(f"has a placeholder other than {known}") from None
        if example == value:
            raise ValueError(f"has none of the placeholders {known}: all records would share one address")
        return value

    @field_validator("merge_fields", mode="after")
    @classmethod
    def _upper_case_tags(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = sorted(tag for tag in value if not re.fullmatch(r"[A-Z0-9_]{1,10}", tag))
        if wrong:
            raise ValueError(f"Mailchimp's tags have up to 10 capitals, digits and _; correct {', '.join(wrong)}")
        return value


class StoresFile(BaseModel):
    """The whole settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    state_schema: str = Field(
        default="mailchimp",
        pattern=r"^[a-z_][a-z0-9_]*$",
        max_length=63,
        description="Schema of the pipeline's own tables in the shop database.",
    )
    stores: list[StoreSettings] = Field(min_length=1, description="The stores.")

    @model_validator(mode="after")
    def _unique(self) -> StoresFile:
        for key, count in Counter(store.key for store in self.stores).items():
            if count > 1:
                raise ValueError(f"{count} stores have the key {key!r}; give each its own")
        ids = Counter((store.mailchimp_conn_id, store.store_id) for store in self.stores)
        for (conn_id, store_id), count in ids.items():
            if count > 1:
                raise ValueError(
                    f"{count} stores have the store_id {store_id!r} in the account of connection {conn_id!r}; "
                    "each needs its own"
                )
        return self

    def store(self, key: str) -> StoreSettings:
        """The settings of one store.

        Raises:
            KeyError: there is none of that key.
        """
        for store in self.stores:
            if store.key == key:
                return store
        raise KeyError(f"no store has the key {key!r}; {did_you_mean(key, (store.key for store in self.stores))}")


def load_stores(path: Path | None = None) -> StoresFile:
    """Read and check the settings.

    Args:
        path: the file; by default what the environment variable STORES_FILE names, else the one next to this module.

    Raises:
        SettingsError: the file is missing or something in it is wrong.
    """
    file = path or Path(os.environ.get(STORES_FILE_VARIABLE) or DEFAULT_STORES_FILE)
    try:
        content = read_yaml(file)
    except YamlUnreadable as error:
        hint = f"write one, or point the environment variable {STORES_FILE_VARIABLE} to it"
        raise SettingsError(file, [str(error) if file.exists() else f"{error}; {hint}"]) from error
    try:
        return StoresFile.model_validate(content)
    except ValidationError as error:
        raise SettingsError(
            file, [told(details, content, StoresFile, StoreSettings) for details in error.errors()]
        ) from None
