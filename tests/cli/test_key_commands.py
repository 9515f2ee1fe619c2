"""What `put`, `get`, `range`, `del` and `cas` print, and the code they exit with."""

from __future__ import annotations

import pytest

from raftkv.errors import (
    InvalidRequest,
    LeaseNotFound,
    NoLeader,
    OutcomeUnknown,
    RaftkvError,
    TooManyKeys,
    WrongCluster,
)
from tests.cli.conftest import FakeClient, Raftkv


def test_a_value_goes_in_and_comes_out_byte_for_byte(raftkv: Raftkv, client: FakeClient) -> None:
    value = b"\x00\xff\n trailing \n"
    assert raftkv("put", "k", "-", stdin=value).code == 0
    assert client.kvs[b"k"].value == value
    assert raftkv("get", "k").out == value


def test_json_shows_bytes_that_are_no_text_as_base64(raftkv: Raftkv, client: FakeClient) -> None:
    raftkv("put", "k", "-", stdin=b"\xff")
    shown = raftkv("get", "k", "--output", "json").json
    assert shown == {
        "key": "k",
        "value_base64": "/w==",
        "create_revision": 2,
        "mod_revision": 2,
        "version": 1,
        "lease": 0,
        "revision": 2,
    }


def test_another_cluster_is_exit_code_12_and_both_are_named(
    raftkv: Raftkv, client: FakeClient
) -> None:
    client.error = WrongCluster("a:1 answers for cluster 7, b:2 answers for cluster 8")
    ran = raftkv("get", "k")
    assert (ran.code, ran.out) == (12, b"")
    assert "a:1 answers for cluster 7, b:2 answers for cluster 8" in ran.err


def test_a_missing_key_is_exit_code_3(raftkv: Raftkv, client: FakeClient) -> None:
    ran = raftkv("get", "nothing")
    assert (ran.code, ran.out) == (3, b"")
    assert "no such key: nothing" in ran.err
    assert raftkv("del", "nothing").code == 3
    ran = raftkv("get", "nothing", "-o", "json")
    assert (ran.code, ran.json) == (3, None)


def test_put_shows_what_it_replaced(raftkv: Raftkv, client: FakeClient) -> None:
    raftkv("put", "k", "old")
    assert raftkv("put", "k", "new", "--prev").text == "OK, revision 3\nwas: old\n"
    assert raftkv("put", "k", "x", "--prev", "-o", "json").json["prev"]["value"] == "new"


def test_range_lists_all_keys_or_a_range_or_a_prefix(raftkv: Raftkv, client: FakeClient) -> None:
    for key in ("a", "b1", "b2", "c"):
        raftkv("put", key, f"of {key}")
    assert raftkv("range", "--keys-only").text == "a\nb1\nb2\nc\n"
    assert raftkv("range", "b", "c", "--keys-only").text == "b1\nb2\n"
    assert raftkv("range", "b2", "--keys-only").text == "b2\nc\n"
    assert raftkv("range", "b", "--prefix").text == "b1\tof b1\t1\t3\nb2\tof b2\t1\t4\n"
    assert raftkv("range", "--prefix", "b", "--keys-only").text == "b1\nb2\n"
    assert raftkv("range", "", "--prefix", "--count-only").text == "4\n"
    assert raftkv("range", "--count-only").text == "4\n"
    assert [kv["key"] for kv in raftkv("range", "-o", "json").json["kvs"]] == ["a", "b1", "b2", "c"]


def test_listed_values_are_escaped_for_terminal_and_columns(
    raftkv: Raftkv, client: FakeClient
) -> None:
    raftkv("put", "k", "-", stdin=b"a\tb\x1b[2J\xe2\x82\xac")
    assert raftkv("range").text == "k\ta\\tb\\x1b[2J€\t1\t2\n"


def test_a_comparison_that_fails_is_exit_code_3(raftkv: Raftkv, client: FakeClient) -> None:
    assert raftkv("cas", "k", "1", "--if-absent").code == 0
    assert raftkv("cas", "k", "2", "--if-value", "1").text == "OK, revision 3\n"
    ran = raftkv("cas", "k", "3", "--if-value", "1")
    assert (ran.code, ran.text) == (3, "not swapped: the value is 2, mod_revision 3\n")
    ran = raftkv("cas", "k", "3", "--if-absent", "-o", "json")
    assert (ran.code, ran.json["swapped"], ran.json["current"]["value"]) == (3, False, "2")


def test_cas_requires_exactly_one_expectation(raftkv: Raftkv, client: FakeClient) -> None:
    assert raftkv("cas", "k", "1").code == 2
    assert raftkv("cas", "k", "1", "--if-absent", "--if-value", "2").code == 2
    assert client.calls == []


def test_arguments_that_exclude_each_other_are_refused(raftkv: Raftkv, client: FakeClient) -> None:
    assert raftkv("range", "a", "b", "--prefix").code == 2
    assert raftkv("del", "a", "b", "--prefix").code == 2
    assert client.calls == []


def test_keys_that_begin_with_a_dash_follow_two_dashes(raftkv: Raftkv, client: FakeClient) -> None:
    assert raftkv("put", "--", "-k", "--output").code == 0
    assert client.kvs[b"-k"].value == b"--output"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("bad"), 2),
        (NoLeader("electing"), 4),
        (OutcomeUnknown("perhaps"), 5),
        (LeaseNotFound("gone"), 6),
        (TooManyKeys("the lease is full"), 6),
    ],
)
def test_an_error_is_one_line_and_a_code(
    raftkv: Raftkv, client: FakeClient, error: RaftkvError, code: int
) -> None:
    client.error = error
    ran = raftkv("put", "k", "v")
    assert (ran.code, ran.out, ran.err) == (code, b"", f"error: {error.message}\n")


def test_json_describes_an_error_for_programs(raftkv: Raftkv, client: FakeClient) -> None:
    client.error = OutcomeUnknown("perhaps", key="k")
    assert raftkv("put", "k", "v", "-o", "json").err == (
        '{"error": {"reason": "OUTCOME_UNKNOWN", "message": "perhaps",'
        ' "outcome": "MAYBE_APPLIED", "facts": {"key": "k"}}}\n'
    )


@pytest.mark.parametrize(
    "command",
    [
        ("put", "k", "v"),
        ("get", "k"),
        ("range",),
        ("range", "--count-only"),
        ("del", "k"),
        ("cas", "k", "w", "--if-value", "v"),
        ("lease", "grant", "10"),
        ("lease", "renew", "7"),
    ],
)
def test_json_has_the_store_s_revision(
    raftkv: Raftkv, client: FakeClient, command: tuple[str, ...]
) -> None:
    raftkv("put", "k", "v")
    assert raftkv(*command, "-o", "json").json["revision"] == client.revision
