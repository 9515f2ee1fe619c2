"""Turns between clients: what each gets of a queue that is taken from."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from raftkv.node.fair_queue import FairQueue

QUANTUM = 10
COST_MAX = 35

clients = st.integers(0, 4)
costs = st.integers(1, COST_MAX)


@given(st.lists(st.tuples(st.sampled_from(["push", "front", "pop", "remove"]), clients, costs)))
def test_nothing_is_lost_or_doubled_and_a_client_is_served_in_its_order(
    steps: list[tuple[str, int, int]],
) -> None:
    queue: FairQueue[int, object] = FairQueue(QUANTUM)
    model: dict[int, list[object]] = defaultdict(list)
    client_of: dict[object, int] = {}
    for step, client, cost in steps:
        waiting = model[client]
        if step in ("push", "front"):
            item = object()
            client_of[item] = client
            if step == "push":
                queue.push(client, item, cost)
                waiting.append(item)
            else:
                queue.push_front(client, item, cost)
                waiting.insert(0, item)
        elif step == "remove" and waiting:
            queue.remove(client, waiting.pop(cost % len(waiting)))
        elif step == "pop" and len(queue):
            _, announced, _ = queue.head()
            item = queue.pop()
            assert item is announced
            assert model[client_of[item]].pop(0) is item
        assert len(queue) == sum(map(len, model.values()))
    left = [queue.pop() for _ in range(len(queue))]
    for client, waiting in model.items():
        assert [item for item in left if client_of[item] == client] == waiting


@given(st.lists(st.lists(costs, min_size=200, max_size=200), min_size=2, max_size=5))
def test_clients_that_keep_adding_get_equal_shares(backlogs: list[list[int]]) -> None:
    queue: FairQueue[int, tuple[int, int]] = FairQueue(QUANTUM)
    for client, backlog in enumerate(backlogs):
        for cost in backlog:
            queue.push(client, (client, cost), cost)
    served = [0] * len(backlogs)
    left = [len(backlog) for backlog in backlogs]
    while all(left):
        client, cost = queue.pop()
        served[client] += cost
        left[client] -= 1
        assert max(served) - min(served) <= QUANTUM + COST_MAX + QUANTUM


@given(
    st.lists(st.lists(costs, min_size=1, max_size=20), min_size=1, max_size=5),
    st.integers(0, 20),
    st.integers(1, QUANTUM),
)
def test_a_new_client_with_a_small_item_is_next(
    backlogs: list[list[int]], served_before: int, cost: int
) -> None:
    queue: FairQueue[object, object] = FairQueue(QUANTUM)
    for client, backlog in enumerate(backlogs):
        for each in backlog:
            queue.push(client, (client, each), each)
    for _ in range(served_before):
        if len(queue) > 1:
            queue.pop()
    queue.push("newcomer", "newcomer", cost)
    spent: dict[object, int] = defaultdict(int)
    while (item := queue.pop()) != "newcomer":
        assert isinstance(item, tuple)
        spent[item[0]] += item[1]
    # Only what is new as well is before it: each once, for no more than a quantum.
    assert all(cost <= QUANTUM for cost in spent.values())


def test_a_client_that_returns_again_and_again_starves_no_other() -> None:
    queue: FairQueue[str, str] = FairQueue(QUANTUM)
    for _ in range(50):
        queue.push("backlog", "backlog", QUANTUM)
    served = []
    queue.push("again", "again", QUANTUM)
    while "backlog" in queue:
        served.append(queue.pop())
        if served[-1] == "again":
            queue.push("again", "again", QUANTUM)
    assert served.count("again") <= served.count("backlog") + 1


def test_an_empty_queue_owes_no_client_a_turn() -> None:
    queue: FairQueue[str, int] = FairQueue(QUANTUM)
    queue.push("a", 1, COST_MAX)
    assert queue.pop() == 1
    queue.push("b", 2, 1)
    queue.push("a", 3, 1)
    assert [queue.pop(), queue.pop()] == [2, 3]
