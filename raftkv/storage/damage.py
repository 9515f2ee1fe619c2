"""The error for damaged data, and the advice to the operator how the node is rebuilt."""

from __future__ import annotations

from typing import Any

from raftkv.errors import DamagedData


def rebuild_advice(node_id: int | None = None, *, alone: bool = False) -> str:
    """The steps for the operator of a node with damaged data. Without an id the text explains OLD.

    `alone`: no other member has the data.
    """
    if alone:
        return (
            "nothing of it was served. No other member has this data: keep the data directory as"
            " it is, and copy it before you try anything"
        )
    old, new = str(node_id or "OLD"), "NEW is an id that no node has had"
    names = new if node_id else f"OLD is the id of this node, {new}"
    return (
        "nothing of it was served, and this node takes no part with what is left. The other"
        f" members have the data: `raftkv member replace {old} NEW` rebuilds the node from them"
        f" ({names}). Delete this data directory only after the replacement has caught up"
    )


def quarantine_advice(node_id: int) -> str:
    """The steps for the operator of a node whose state differs from that of a majority."""
    return (
        "what it has served lately may be wrong. It takes no part any more, and serves nothing."
        f" `raftkv member replace {node_id} NEW` rebuilds the node from the other members (NEW is"
        " an id that no node has had). Keep this data directory until you know the cause: memory"
        " or a processor that fails, or a fault of raftkv"
    )


REBUILD_ADVICE = rebuild_advice()


def damaged(what: str, **facts: Any) -> DamagedData:
    """The error for damage that this node finds in its own data, with advice to its operator.

    `facts["damage"]` is `what` without the advice, for callers that give better advice.
    """
    return DamagedData(f"{what}; {REBUILD_ADVICE}", damage=what, **facts)


def damage_of(error: DamagedData) -> str:
    """The description of the damage, without advice."""
    return error.facts.get("damage", error.message)
