"""The settings: which stores there are and how each is synchronised, from one YAML file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from include.config.yaml_file import YamlUnreadable, did_you_mean, read_yaml

STORES_FILE_VARIABLE: Final = "STORES_FILE"
DEFAULT_STORES_FILE: Final = Path(__file__).with_name("stores.yaml")

_CRON_FIELDS = 5
_ConnId = Annotated[str, Field(min_length=1)]


class SettingsError(ValueError):
    """The settings file is wrong. One error lists every problem; each names store, setting, reason and remedy."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n  - ".join([f"The settings in {path} can't be used:", *self.problems]))


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
        description="Cron expression (UTC) of the push; never (or null): only when triggered by hand.",
    )
    guests: Literal["first_name_only", "full", "skip"] = Field(
        default="first_name_only",
        description="What is sent of buyers without an account: e-mail and first name, everything, or nothing at all.",
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
    product_url_template: str | None = Field(
        default=None,
        description="Address of a product's page where the profile yields none, with {product_id} or {handle} in it.",
    )
    max_rejected_percent: float = Field(
        default=5, ge=0, le=100, strict=False, description="Share of rejected records above which a run fails, in %."
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

    @field_validator("schedule_push", mode="after")
    @classmethod
    def _cron_or_never(cls, value: str | None) -> str | None:
        if value is None or value == "never":
            return None
        if len(value.split()) != _CRON_FIELDS:
            raise ValueError(
                'is no cron expression of five fields, such as "*/15 * * * *"; for no schedule write never'
            )
        return value

    @field_validator("product_url_template", mode="after")
    @classmethod
    def _known_placeholders(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            example = value.format(product_id="1", handle="a")
        except (KeyError, IndexError, ValueError, AttributeError):
            raise ValueError("has a placeholder other than {product_id} and {handle}") from None
        if example == value:
            raise ValueError(
                "has none of the placeholders {product_id} and {handle}: all products would share one page"
            )
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
        raise SettingsError(file, [_told(details, content) for details in error.errors()]) from None


def _told(details: ErrorDetails, content: dict[str, Any]) -> str:
    """One mistake as a sentence: where it is, what is wrong, what is possible."""
    where, known = _place(details["loc"], content)
    name = details["loc"][-1] if details["loc"] else ""
    match details["type"]:
        case "extra_forbidden":
            return f"{where}: there is no such setting; {did_you_mean(name, known)}"
        case "missing":
            return f"{where}: is missing and has no default"
        case "value_error":
            return f"{where}: {details['ctx']['error']}"
        case _:
            message = details["msg"][0].lower() + details["msg"][1:]
            return f"{where}: {message}; found {details['input']!r}"


def _place(location: tuple[int | str, ...], content: dict[str, Any]) -> tuple[str, set[str]]:
    """Where a mistake is, with stores named by their keys, and the settings that exist there."""
    match location:
        case ("stores", int(number), *rest):
            entry = content["stores"][number]
            key = entry.get("key") if isinstance(entry, dict) else None
            store = f"store {key!r}" if key else f"store number {number + 1}"
            setting = ".".join(map(str, rest))
            return f"{store}, setting {setting!r}" if setting else store, set(StoreSettings.model_fields)
        case ():
            return "stores", set(StoresFile.model_fields)
        case _:
            return f"setting {'.'.join(map(str, location))!r}", set(StoresFile.model_fields)
