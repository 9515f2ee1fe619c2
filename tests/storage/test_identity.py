"""The identity of a data directory is read as it was written, or refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.storage.identity import (
    FORMAT_VERSION,
    DirectoryIdentity,
    MemoryIdentityStore,
    Stage,
    decode_identity,
)

NUMBER = st.integers(0, 2**64 - 1)
WHOLE = DirectoryIdentity(
    cluster_id=1,
    node_id=2,
    disk_id=3,
    cluster_name="orders",
    incarnation=2**64 - 1,
    stage=Stage.FOUNDING,
    membership=b"\x00\xff",
    version=1,
    out_of_service="node 3 says otherwise",
)


@given(
    st.builds(
        DirectoryIdentity,
        cluster_id=NUMBER,
        node_id=NUMBER,
        disk_id=st.integers(1, 2**64 - 1),
        cluster_name=st.text(),
        incarnation=NUMBER,
        stage=st.sampled_from(Stage),
        membership=st.binary(),
        version=st.integers(0, 2**32 - 1),
        out_of_service=st.text(),
    )
)
def test_an_encoded_identity_is_decoded_alike(identity: DirectoryIdentity) -> None:
    assert decode_identity(identity.encode()) == identity


def test_the_format_is_the_one_that_every_later_program_reads() -> None:
    assert json.loads(WHOLE.encode()) == {
        "format_version": 2,
        "cluster_id": 1,
        "node_id": 2,
        "disk_id": 3,
        "cluster_name": "orders",
        "incarnation": 2**64 - 1,
        "stage": "founding",
        "membership": "AP8=",
        "version": 1,
        "out_of_service": "node 3 says otherwise",
    }


def test_all_nodes_of_a_0_1_0_cluster_compute_the_same_incarnation() -> None:
    def read(cluster_id: int, node_id: int) -> DirectoryIdentity | int:
        content = {"format_version": 1, "cluster_id": cluster_id, "node_id": node_id}
        return decode_identity(json.dumps(content).encode())

    first, second, other = read(7, 1), read(7, 2), read(8, 1)
    assert isinstance(first, DirectoryIdentity)
    assert isinstance(second, DirectoryIdentity)
    assert isinstance(other, DirectoryIdentity)
    golden = hashlib.sha256(b"raftkv 0.1.0 " + bytes(7) + b"\x07").digest()[:8]
    assert first.incarnation == second.incarnation == int.from_bytes(golden, "big")
    assert other.incarnation != first.incarnation
    assert (first.node_id, first.disk_id, first.cluster_name) == (1, 0, "")
    assert first.stage is Stage.MEMBER


@pytest.mark.parametrize("format_version", [0, 3, 99])
def test_an_unknown_format_is_named_and_its_other_fields_are_not_read(format_version: int) -> None:
    assert decode_identity(b'{"format_version": %d, "x": []}' % format_version) == format_version


def changed(**fields: object) -> bytes:
    return json.dumps(json.loads(WHOLE.encode()) | fields).encode()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"null", b"5", b"[]", b'"x"', b"\xff", b"{}"),
        *(b'{"format_version": null}', b'{"format_version": "2"}', b'{"format_version": 1}'),
        *(b'{"format_version": 2}', changed(extra=1), changed(stage="guest"), changed(stage=None)),
        *(changed(node_id="2"), changed(node_id=True), changed(node_id=2.0), changed(node_id=-1)),
        *(changed(incarnation=2**64), changed(incarnation=None), changed(disk_id=0)),
        *(changed(membership=1), changed(membership="AP8"), changed(membership="A%P8=")),
        *(
            changed(cluster_name=5),
            changed(out_of_service=None),
            changed(version="1"),
            changed(version=2**32),
        ),
    ],
)
def test_content_that_is_no_identity_is_refused(content: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode_identity(content)


@given(
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["format_version", "x"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_decoding_any_bytes_raises_only_the_documented_errors(content: bytes) -> None:
    try:
        decoded = decode_identity(content)
    except (ValueError, KeyError, TypeError):
        return
    assert decoded != FORMAT_VERSION


def test_a_store_returns_the_identity_that_was_saved_last() -> None:
    store = MemoryIdentityStore()
    assert store.load() is None
    store.save(WHOLE)
    store.save(replace(WHOLE, stage=Stage.MEMBER))
    assert store.load() == replace(WHOLE, stage=Stage.MEMBER)
