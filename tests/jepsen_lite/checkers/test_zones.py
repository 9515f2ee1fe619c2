"""The verdict by zones is that of the definition, on histories small enough to try every order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jepsen_lite.checkers.linearizable import register, zones
from jepsen_lite.checkers.linearizable.register_model import REGISTER, VERSIONED_REGISTER
from jepsen_lite.history import Operation
from jepsen_lite.verdicts import Validity
from tests.jepsen_lite.checkers.histories import FAIL, INFO, OK, operation
from tests.jepsen_lite.checkers.test_linearizability import by_definition

SEEN = st.sampled_from([None, "v0", "v1", "v2", "v3"])


@st.composite
def registers(draw: st.DrawFn, versioned: bool = False) -> list[Operation]:
    """Up to five calls that write each value once."""
    made: list[Operation] = []
    for number in range(draw(st.integers(1, 5))):
        began = draw(st.integers(0, 12))
        ended = draw(st.integers(began, 14))
        kind = draw(st.sampled_from([OK, OK, OK, INFO, FAIL]))
        version = [draw(st.integers(0, 4))] if versioned else []
        function = draw(st.sampled_from(["read", "read", "write", "cas"]))
        asked: Any = None
        if function == "read":
            answer: Any = [draw(SEEN), *version]
        elif function == "write":
            asked = f"v{number}"
            answer = version[0] if versioned else asked
        else:
            asked = [draw(SEEN), f"v{number}"]
            swapped = draw(st.booleans())
            answer = [swapped, asked[1] if swapped else draw(SEEN), *version]
        made.append(
            operation(number, began, ended, function, asked, answer if kind is OK else asked, kind)
        )
    return made


def agrees_with_definition(operations: list[Operation], versioned: bool) -> bool:
    model = VERSIONED_REGISTER if versioned else REGISTER
    return by_definition(model, list(register.calls_of(operations)))


@settings(max_examples=300)
@given(registers())
def test_the_zones_decide_every_history_in_which_each_value_has_one_writer(
    operations: list[Operation],
) -> None:
    legal = agrees_with_definition(operations, versioned=False)
    by_zones = zones.judge(operations, versioned=False)
    assert by_zones.legal == legal
    assert (register.check(operations).validity is Validity.VALID) == legal


@settings(max_examples=200)
@given(registers(versioned=True))
def test_versions_only_ever_forbid_orders(operations: list[Operation]) -> None:
    legal = agrees_with_definition(operations, versioned=True)
    by_zones = zones.judge(operations, versioned=True)
    assert legal or not by_zones.legal
    assert (register.check(operations, versioned=True).validity is Validity.VALID) == legal
