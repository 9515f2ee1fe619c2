"""The exit codes of `jepsen-lite`."""

from __future__ import annotations

from jepsen_lite.verdicts import Validity

USAGE = 254

OF_VALIDITY = {
    Validity.VALID: 0,
    Validity.INVALID: 1,
    Validity.UNKNOWN: 2,
    Validity.VACUOUS: 3,
}
