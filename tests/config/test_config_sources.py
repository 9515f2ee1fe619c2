"""Every setting has an origin, and a misspelt name is an error."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from raftkv.cli.serve import serve
from raftkv.config_sources import (
    DEFAULTS,
    FLAGS,
    as_text,
    check,
    load,
    parse_members,
    variable_of,
)
from raftkv.errors import ConfigurationError
from raftkv.raft.entry import Address


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "raftkv.toml"


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(file: Path) -> None:
    file.write_text('tick_ms = 20\nheartbeat_ticks = 3\nlog_level = "debug"\n')
    environ = {"RAFTKV_HEARTBEAT_TICKS": "4", "RAFTKV_LOG_LEVEL": "warning", "HOME": "/"}
    loaded = load(file, environ, {"log_level": "error"})
    settings = loaded.settings
    assert (settings.tick_ms, settings.heartbeat_ticks, settings.log_level) == (20, 4, "error")
    assert settings.election_ticks_min == 10
    assert loaded.origins["tick_ms"] == f"file {file}"
    assert loaded.origins["heartbeat_ticks"] == "environment RAFTKV_HEARTBEAT_TICKS"
    assert loaded.origins["log_level"] == "flag --log-level"
    assert loaded.origins["election_ticks_min"] == "default"
    assert loaded.origins["client_listen"] == "derived"


def test_limits_are_set_from_every_source(file: Path) -> None:
    file.write_text("[limits]\nkey_bytes_max = 100\nvalue_bytes_max = 1000\n")
    environ = {"RAFTKV_LIMITS_KEY_BYTES_MAX": "200"}
    loaded = load(file, environ, {"limits.batch_bytes_max": "3000000"})
    assert loaded.settings.limits.key_bytes_max == 200
    assert loaded.settings.limits.value_bytes_max == 1000
    assert loaded.settings.limits.batch_bytes_max == 3_000_000
    assert loaded.origins["limits.batch_bytes_max"] == "flag --set limits.batch_bytes_max"


def test_members_are_written_as_text_or_as_tables(file: Path) -> None:
    file.write_text(
        '[initial_members.1]\npeer = "a:1"\nclient = "a:2"\n'
        '[initial_members.2]\npeer = "b:1"\nclient = "b:2"\n'
    )
    insecure = {
        "RAFTKV_ALLOW_INSECURE_NETWORK": "true",
        "RAFTKV_CLUSTER_SECRET_FILE": "secret",
    }
    tables = load(file, insecure, {}).settings.initial_members
    text = load(None, insecure | {"RAFTKV_INITIAL_MEMBERS": "1=a:1/a:2, 2=b:1/b:2"}, {})
    assert (
        tables
        == text.settings.initial_members
        == {
            1: Address("a:1", "a:2"),
            2: Address("b:1", "b:2"),
        }
    )


def test_shown_values_can_be_used_as_settings(file: Path) -> None:
    loaded = load(None, {}, {"initial_members": "1=127.0.0.1:1/127.0.0.1:2"})
    again = load(None, {}, {name: value for name, value, _ in loaded.rows()})
    assert again.settings == loaded.settings
    assert [name for name, _, _ in loaded.rows()] == list(DEFAULTS)


def test_settings_shown_as_toml_are_a_file_that_gives_them(file: Path) -> None:
    loaded = load(None, {}, {"node_id": "3", "cluster_name": 'a "b"\\', "log_level": "debug"})
    file.write_text(loaded.as_toml())
    assert load(file, {}, {}).settings == loaded.settings


def test_the_variables_of_a_service_called_raftkv_are_not_settings() -> None:
    load(
        None,
        {
            "RAFTKV_SERVICE_HOST": "10.0.0.1",
            "RAFTKV_SERVICE_PORT_CLIENT": "7411",
            "RAFTKV_PORT": "tcp://10.0.0.1:7411",
            "RAFTKV_PORT_7411_TCP_ADDR": "10.0.0.1",
            "RAFTKV_0_SERVICE_HOST": "10.0.0.1",
            "RAFTKV_ENDPOINTS": "db:7411",
        },
        {},
    )


@pytest.mark.parametrize(
    ("document", "key", "says"),
    [
        ("tick_mss = 5", "tick_mss", "did you mean tick_ms"),
        ("[limits]\nkey_bytes = 5", "limits.key_bytes", "did you mean limits.key_bytes_max"),
        ('tick_ms = "50"', "tick_ms", "whole number"),
        ("tick_ms = 50.5", "tick_ms", "whole number"),
        ("tick_ms = true", "tick_ms", "whole number"),
        ("tick_ms = 1", "tick_ms", "from 5 to 10000"),
        ("cluster_name = 5", "cluster_name", "text in quotes"),
        ("allow_insecure_network = 1", "allow_insecure_network", "true or false"),
        ("limits = 5", "limits", "a table"),
        ("[limits]\nkey_bytes_max = 0", "limits.key_bytes_max", "at least 1"),
        ('initial_members = "1=a:1"', "initial_members", "peer_host:port/client_host:port"),
        ("[initial_members.one]\npeer = 'a:1'", "initial_members", "a table for each node"),
        ("[initial_members.1]\npeer = 1\nclient = 2", "initial_members", "a table for each node"),
        ('client_listen = "0.0.0.0:1"', "client_listen", "allow_insecure_network"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_key_file_and_fix(
    file: Path, document: str, key: str, says: str
) -> None:
    file.write_text(document)
    with pytest.raises(ConfigurationError, match="Fix: ") as caught:
        load(file, {}, {})
    assert says in caught.value.message
    assert str(file) in caught.value.message
    assert caught.value.facts["key"] == key


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("RAFTKV_NODE", "1", "did you mean RAFTKV_NODE_ID"),
        ("RAFTKV_NODE_ID", "one", "a whole number"),
        ("RAFTKV_ALLOW_INSECURE_NETWORK", "maybe", "true or false"),
        ("RAFTKV_INITIAL_MEMBERS", "1=a:1/b:1,1=a:1/b:1", "id=peer_host"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    variable: str, value: str, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=variable) as caught:
        load(None, {variable: value}, {})
    assert says in caught.value.message


def test_no_setting_is_suggested_for_a_name_that_resembles_none() -> None:
    for name in ("RAFTKV_BOGUS", "RAFTKV_LIMITS_BOGUS", "RAFTKV_X"):
        with pytest.raises(ConfigurationError, match="lists every setting"):
            load(None, {name: "1"}, {})


def test_a_limit_without_its_prefix_is_recognized() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean limits\.key_bytes_max\?"):
        load(None, {}, {"key_bytes_max": "1"})


def test_a_mistake_in_a_flag_names_the_flag() -> None:
    with pytest.raises(ConfigurationError, match="flag --set tick_ms"):
        load(None, {}, {"tick_ms": "soon"})
    with pytest.raises(ConfigurationError, match=r"flag --set limits\.key_bytes_max"):
        load(None, {}, {"limits.key_bytes_max": "-1"})


def test_a_flag_of_serve_is_named_as_such() -> None:
    assert set(FLAGS) == inspect.signature(serve).parameters.keys() - {"config", "assignments"}
    loaded = load(None, {}, {"trace_messages": "trace.jsonl"})
    assert loaded.origins["trace_messages"] == "flag --trace-messages"


def test_a_file_that_is_not_there_or_not_toml_is_named(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load(file, {}, {})
    file.write_text("tick_ms = = 5")
    with pytest.raises(ConfigurationError, match=r"can't be read.*line 1"):
        load(file, {}, {})


def test_every_setting_has_a_variable_of_its_own() -> None:
    assert len({variable_of(name) for name in DEFAULTS}) == len(DEFAULTS)


def test_members_as_text_survive_a_round_trip() -> None:
    text = "1=a:1/a:2,2=[::1]:3/b:4"
    assert as_text(parse_members(text)) == text


def test_the_check_finds_no_problem_where_load_finds_none(file: Path) -> None:
    file.write_text("tick_ms = 20\n")
    checked, problems = check(file, {"RAFTKV_LOG_LEVEL": "debug"}, {"node_id": "2"})
    assert problems == []
    assert checked == load(file, {"RAFTKV_LOG_LEVEL": "debug"}, {"node_id": "2"})


def test_the_first_problem_of_the_check_is_the_one_that_load_raises(file: Path) -> None:
    file.write_text('tick_ms = 1\nlog_level = "loud"\nlog_colour = 3\n')
    _, problems = check(file, {}, {})
    with pytest.raises(ConfigurationError) as raised:
        load(file, {}, {})
    assert problems[0].message == raised.value.message
    assert len(problems) == 3
