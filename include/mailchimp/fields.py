"""The kinds of values in Mailchimp's request bodies: ids, texts, money, currencies, times and e-mail addresses.

Each is the documented form alone, checked without coercion; the messages of the custom errors are those that Mailchimp
gives where a recording exists, and never repeat the value.
"""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, Strict, StringConstraints
from pydantic_core import PydanticCustomError

MAX_ID = 50
"""Longest id (characters) of customers, images, promo rules, promo codes and of an order's cart."""

FAKE_DOMAINS = frozenset({"example.com", "example.org", "example.net", "test.com"})
"""E-mail domains that Mailchimp refuses as "looks fake or invalid" (example.com recorded, the others reported)."""

# Active ISO 4217 codes that name money (no metals, funds or test codes).
_CODES = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF
CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF
IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK
MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR
SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED
VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
"""
CURRENCIES = frozenset(_CODES.split())


def _known_currency(code: str) -> str:
    if code not in CURRENCIES:
        raise PydanticCustomError("currency", "Please provide a valid three-letter ISO 4217 currency code.")
    return code


def _instant(text: str) -> str:
    """Accept ISO 8601 with a time and an offset: a naive time would be read in an unknown zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text:
        raise PydanticCustomError("instant", "Schema describes date-time with an offset, another string found instead")
    return text


def _deliverable(address: str) -> str:
    name, at, domain = address.rpartition("@")
    label, dot, top = domain.rpartition(".")
    wrong = not (name and at and label and dot and len(top) > 1) or "@" in name or ".." in domain or len(address) > 254
    if wrong or any(character.isspace() or character in '<>(),;:"[]\\' for character in address):
        raise PydanticCustomError("invalid_email", "Please provide a valid email address.")
    if domain.lower() in FAKE_DOMAINS:
        raise PydanticCustomError("fake_email", "The address looks fake or invalid, please enter a real email address.")
    return address


def _no_zero(text: str) -> str:
    if text == "0":
        raise PydanticCustomError("zero_id", "cannot be empty")
    return text


_NON_BLANK = r"\S"
Text = Annotated[str, Strict()]
Title = Annotated[str, Strict(), StringConstraints(min_length=1, pattern=_NON_BLANK)]
Identifier = Annotated[str, Strict(), StringConstraints(min_length=1, pattern=_NON_BLANK), AfterValidator(_no_zero)]
ShortIdentifier = Annotated[Identifier, StringConstraints(max_length=MAX_ID)]
LineIdentifier = Annotated[str, Strict(), StringConstraints(min_length=1)]
Integer = Annotated[int, Strict()]
Boolean = Annotated[bool, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Currency = Annotated[str, Strict(), AfterValidator(_known_currency)]
Time = Annotated[str, Strict(), AfterValidator(_instant)]
TimeOrEmpty = Annotated[str, Strict(), AfterValidator(lambda text: _instant(text) if text else text)]
"""An instant, or "" to take back the one that was sent before."""
Email = Annotated[str, Strict(), AfterValidator(_deliverable)]
