"""Each addition happens once, whatever becomes of its messages."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.client import Client
from raftkv.errors import InvalidRequest, OutcomeUnknown, Refused
from raftkv.recipes import Counter
from tests.client.scripted import Answer, Fault, SeenRequest
from tests.recipes.recipe_cluster import RecipeCluster


async def test_additions_of_many_tasks_and_clients_all_count(client: Client, other: Client) -> None:
    counters = [Counter(client, "c"), Counter(other, "c")]
    seen = await asyncio.gather(*(counters[n % 2].add(timeout=60.0) for n in range(60)))
    assert sorted(seen) == list(range(1, 61))
    assert await counters[0].get() == 60
    assert await counters[1].add(-70) == -10


@pytest.mark.parametrize("fault", list(Fault))
async def test_an_addition_whose_message_or_answer_is_lost_happens_once(
    client: Client, cluster: RecipeCluster, fault: Fault
) -> None:
    counter = Counter(client, "c")
    await counter.add(1)
    cluster.script.append(fault)
    assert await counter.add(1, timeout=30.0) == 2
    assert await counter.get() == 2


async def test_an_addition_without_an_answer_raises_outcome_unknown(
    client: Client, cluster: RecipeCluster
) -> None:
    counter = Counter(client, "c")
    await counter.add(5)

    def lose(seen: SeenRequest) -> Answer:
        return Fault.REPLY_LOST

    cluster.answer_to = lose
    with pytest.raises(OutcomeUnknown):
        await counter.add(1, timeout=1.0)
    cluster.answer_to = lambda seen: None
    assert await counter.get() == 6


async def test_an_absent_counter_is_0_and_what_is_no_number_is_refused(client: Client) -> None:
    counter = Counter(client, "c")
    assert await counter.get() == 0
    await client.put("c", "many")
    with pytest.raises(Refused):
        await counter.add()
    with pytest.raises(InvalidRequest):
        await counter.add(1.5)  # type: ignore[arg-type]
