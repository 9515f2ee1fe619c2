"""The fuzzer's messages: their kinds, and that a seed reproduces them."""

from __future__ import annotations

from random import Random

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.calls import CHANGING, METHODS, PEER_METHODS, path_of, request_of
from tests.fuzz.messages import mutated, random_message, unreadable

SEEDS = range(20)


@pytest.mark.parametrize("method", [*METHODS, *PEER_METHODS], ids=path_of)
def test_every_method_gets_the_same_requests_from_the_same_seed(method: MethodDescriptor) -> None:
    requests = [request_of(Random(seed), method) for seed in SEEDS]
    assert requests == [request_of(Random(seed), method) for seed in SEEDS]
    if method.input_type.fields:
        assert len(set(requests)) > 3


@pytest.mark.parametrize("method", [*METHODS, *PEER_METHODS], ids=path_of)
def test_random_messages_parse_and_mutated_ones_often_do_not(method: MethodDescriptor) -> None:
    kind = GetMessageClass(method.input_type)
    unread = 0
    for seed in range(50):
        data = random_message(Random(seed), method.input_type).SerializeToString()
        kind.FromString(data)
        try:
            kind.FromString(mutated(Random(seed), data))
        except DecodeError:
            unread += 1
    assert 5 < unread < 50


def test_requests_that_would_change_the_membership_are_sent_malformed() -> None:
    changing = [method for method in METHODS if method.name in CHANGING]
    assert len(changing) == len(CHANGING)
    for method in changing:
        for seed in SEEDS:
            with pytest.raises(DecodeError):
                GetMessageClass(method.input_type).FromString(request_of(Random(seed), method))
            assert unreadable(Random(seed), method.input_type)
