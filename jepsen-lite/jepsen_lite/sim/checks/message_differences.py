"""The first field in which a node's result differs from the model's."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from raftkv.rpc.v1 import kv_pb2


def first_difference(here: Message, model: Message, path: str = "") -> str | None:
    """The field, the node's value and the model's; None if the two mean the same.

    The texts and the delays of failures are no part of the comparison, and of their facts only
    those that the model states.
    """
    if here == model:
        return None
    if isinstance(here, kv_pb2.Failure) and isinstance(model, kv_pb2.Failure):
        return _failure_difference(here, model, path)
    for field in here.DESCRIPTOR.fields:
        ours, theirs = getattr(here, field.name), getattr(model, field.name)
        name = f"{path}.{field.name}" if path else field.name
        if field.message_type is None or field.is_repeated:
            difference = _values_difference(ours, theirs, name, is_list=field.is_repeated)
        elif here.HasField(field.name) is not model.HasField(field.name):
            difference = _says(
                name,
                ours if here.HasField(field.name) else "not set",
                theirs if model.HasField(field.name) else "not set",
            )
        else:
            difference = first_difference(ours, theirs, name)
        if difference is not None:
            return difference
    return None


def _values_difference(ours: Any, theirs: Any, name: str, *, is_list: bool) -> str | None:
    if ours == theirs:
        return None
    if not is_list:
        return _says(name, ours, theirs)
    for place, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        difference = (
            first_difference(our, their, f"{name}[{place}]")
            if isinstance(our, Message)
            else _values_difference(our, their, f"{name}[{place}]", is_list=False)
        )
        if difference is not None:
            return difference
    if len(ours) != len(theirs):
        return f"{name} has {len(ours)} items, and the model's has {len(theirs)}"
    return None


def _failure_difference(here: kv_pb2.Failure, model: kv_pb2.Failure, path: str) -> str | None:
    if here.reason != model.reason:
        return _says(f"{path}.reason", f"{here.reason} ({here.message})", model.reason)
    if here.outcome != model.outcome:
        return _says(f"{path}.outcome", here.outcome, model.outcome)
    for name, value in model.facts.items():
        if here.facts[name] != value:
            return _says(f"{path}.facts[{name}]", here.facts[name], value)
    return None


def _says(name: str, ours: Any, theirs: Any) -> str:
    return f"{name} is {_short(ours)}, and the model has {_short(theirs)}"


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, Message | str | int) else repr(value)
    return " ".join(text.split())[:200] or "empty"
