"""Bodies of …/promo-rules and …/promo-codes."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from include.mailchimp.contract.body import RequestBody
from include.mailchimp.fields import Boolean, Integer, Number, ShortIdentifier, Text, TimeOrEmpty

MAX_TITLE_BYTES = 100


def _short_enough(title: str) -> str:
    if len(title.encode()) > MAX_TITLE_BYTES:
        raise PydanticCustomError("too_many_bytes", "The title must not be longer than 100 bytes.")
    return title


class PromoRulePatch(RequestBody):
    """PATCH …/promo-rules/{id}: what is sent together with what is stored has to be a valid ``PromoRule``."""

    title: Annotated[Text, AfterValidator(_short_enough)] = ""
    description: Annotated[Text, StringConstraints(max_length=255)] = ""
    starts_at: TimeOrEmpty = ""
    ends_at: TimeOrEmpty = ""
    type: Literal["fixed", "percentage"] = "fixed"
    target: Literal["per_item", "total", "shipping"] = "total"
    amount: Number = 0.0
    enabled: Boolean = True
    created_at_foreign: TimeOrEmpty = ""
    updated_at_foreign: TimeOrEmpty = ""


class PromoRule(PromoRulePatch):
    """POST …/promo-rules: a percentage is a fraction; only free shipping (``fixed`` on ``shipping``) has 0."""

    id: ShortIdentifier
    description: Annotated[Text, StringConstraints(max_length=255)]
    type: Literal["fixed", "percentage"]
    target: Literal["per_item", "total", "shipping"]
    amount: Number

    @field_validator("ends_at")
    @classmethod
    def _after_the_start(cls, value: str, info: ValidationInfo) -> str:
        start = info.data.get("starts_at", "")
        if value and start and datetime.fromisoformat(value) <= datetime.fromisoformat(start):
            raise PydanticCustomError("ends_too_early", "The end date must be after the start date.")
        return value

    @field_validator("amount")
    @classmethod
    def _worth_something(cls, value: float, info: ValidationInfo) -> float:
        kind, target = info.data.get("type"), info.data.get("target")
        if kind == "percentage" and not 0 <= value <= 1:
            raise PydanticCustomError("no_fraction", "A percentage must be between 0 and 1.")
        if value < 0 or (value == 0 and (kind, target) != ("fixed", "shipping")):
            raise PydanticCustomError("no_amount", "The amount must be greater than 0.")
        return value


class PromoCodePatch(RequestBody):
    """PATCH …/promo-codes/{id}."""

    code: Annotated[Text, StringConstraints(min_length=1, max_length=50)] = ""
    redemption_url: Annotated[Text, StringConstraints(max_length=2000)] = ""
    usage_count: Integer = 0
    enabled: Boolean = True
    created_at_foreign: TimeOrEmpty = ""
    updated_at_foreign: TimeOrEmpty = ""


class PromoCode(PromoCodePatch):
    """POST …/promo-rules/{id}/promo-codes; the rule must exist."""

    id: ShortIdentifier
    code: Annotated[Text, StringConstraints(min_length=1, max_length=50)]
    redemption_url: Annotated[Text, StringConstraints(min_length=1, max_length=2000)]
