"""Currencies (ISO 4217) and exact amounts."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from include.documents.encoder import to_arrow

#: Decimals after the point of every amount that the extraction yields (``decimal128(24, 8)``).
SCALE: Final = 8

_TWO_DIGITS = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW
CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HRK HTG HUF
IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV
MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD
SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG ZWL
""".split()
_NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND".split()
_FOUR_DIGITS = "CLF UYW".split()

#: Decimals that amounts of a currency have, by ISO 4217 code.
CURRENCY_DIGITS: Final[dict[str, int]] = {
    **dict.fromkeys(_TWO_DIGITS, 2),
    **dict.fromkeys(_NO_DIGITS, 0),
    **dict.fromkeys(_THREE_DIGITS, 3),
    **dict.fromkeys(_FOUR_DIGITS, 4),
}


def currency_digits(codes: pd.Series) -> pd.Series:
    """Look up the decimals of each currency code; null for a code that ISO 4217 doesn't know."""
    return codes.map(CURRENCY_DIGITS).astype(pd.ArrowDtype(pa.int64()))


def units(amounts: pd.Series) -> np.ndarray:
    """Return amounts as whole hundred-millionths, exact, for arithmetic on whole columns.

    Args:
        amounts: decimal128 with :data:`SCALE` decimals; null and what is `too_large` count as zero.

    Returns:
        Int64, ``12.5`` as ``1_250_000_000``.
    """
    low, high, present = _words(amounts)
    return np.where(present & (high == low >> 63), low, 0)


def too_large(amounts: pd.Series) -> np.ndarray:
    """Tell which amounts are beyond ±92 billion, more than `units` can hold."""
    low, high, present = _words(amounts)
    return present & (high != low >> 63)


def _words(amounts: pd.Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lower and the upper 64 bits of decimals, and which of them aren't null."""
    array = to_arrow(amounts)
    if not len(array):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool)
    words = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    return words[0::2], words[1::2], array.is_valid().to_numpy(zero_copy_only=False)
