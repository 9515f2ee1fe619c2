"""`raftkv config check` finds what `serve` would refuse, and all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.storage.directory import open_directory
from raftkv.storage.identity import DirectoryIdentity, Stage
from tests.cli.conftest import Raftkv
from tests.tls.authority import Authority


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "raftkv.toml"


def test_valid_settings_have_no_problem(raftkv: Raftkv, file: Path, tmp_path: Path) -> None:
    own = Authority(tmp_path / "ca").node(1)
    ca = tmp_path / "ca" / "ca.pem"
    file.write_text(
        f'data_dir = "{tmp_path / "data"}"\n'
        f'client_cert_file = "{own.cert_file}"\nclient_key_file = "{own.key_file}"\n'
        f'peer_cert_file = "{own.cert_file}"\npeer_key_file = "{own.key_file}"\n'
        f'peer_ca_file = "{ca}"\n'
    )
    ran = raftkv("config", "check", "--config", str(file))
    assert (ran.code, ran.text) == (0, f"{file}: valid\n")
    assert not (tmp_path / "data").exists()


def test_every_problem_of_the_sources_is_found(raftkv: Raftkv, file: Path) -> None:
    file.write_text(
        'tick_ms = "slow"\nheartbeet_ticks = 3\nlog_level = "loud"\nwatches_max = 0\n'
        "[limits]\nkey_bytes_max = 0\n"
    )
    ran = raftkv("config", "check", "-c", str(file), "-o", "json", env={"RAFTKV_NODE_ID": "one"})
    assert ran.code == 2
    problems = ran.json[str(file)]
    assert {each["key"] for each in problems} == {
        *("tick_ms", "heartbeet_ticks", "log_level", "watches_max"),
        *("limits.key_bytes_max", "node_id"),
    }
    assert all(each["origin"] for each in problems)


def test_every_file_that_cannot_be_used_is_found(
    raftkv: Raftkv, file: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    own, other = authority.node(1), authority.node(2)
    (tmp_path / "token").write_text("x")
    (tmp_path / "token").chmod(0o644)
    (tmp_path / "deny").write_text("not a number\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letters").touch()
    file.write_text(
        f'data_dir = "{tmp_path / "data"}"\ncluster_secret_file = "{tmp_path / "missing"}"\n'
        f'client_cert_file = "{own.cert_file}"\nclient_key_file = "{other.key_file}"\n'
        f'peer_cert_file = "{other.cert_file}"\npeer_key_file = "{other.key_file}"\n'
        f'peer_ca_file = "{tmp_path / "ca" / "ca.pem"}"\n'
        f'certificate_deny_file = "{tmp_path / "deny"}"\njoin_token_file = "{tmp_path / "token"}"\n'
    )
    ran = raftkv("config", "check", "-c", str(file))
    assert ran.code == 2
    for setting in (
        *("cluster_secret_file", "client_key_file", "peer_cert_file"),
        *("certificate_deny_file", "join_token_file", "is not a raftkv data directory"),
    ):
        assert setting in ran.text
    assert len(ran.text.splitlines()) == 6


def test_a_directory_of_another_node_and_a_foreign_list_are_found(
    raftkv: Raftkv, file: Path, tmp_path: Path
) -> None:
    directory = open_directory(tmp_path / "used", "raftkv", 3, 7)
    directory.save(DirectoryIdentity(1, 3, 7, "raftkv", stage=Stage.FOUNDING))
    directory.close()
    file.write_text(f'data_dir = "{tmp_path / "used"}"\n')
    ran = raftkv("config", "check", "-c", str(file))
    assert (ran.code, "belongs to node 3, not to node 1" in ran.text) == (2, True)
    file.write_text(
        f'data_dir = "{tmp_path / "new"}"\ninitial_members = "2=127.0.0.1:7512/127.0.0.1:7412"\n'
    )
    ran = raftkv("config", "check", "-c", str(file))
    assert (ran.code, "a list with this node, 1, in it" in ran.text) == (2, True)


def test_several_files_are_checked_each_by_itself(raftkv: Raftkv, tmp_path: Path) -> None:
    good, bad, missing = (tmp_path / name for name in ("good.toml", "bad.toml", "missing.toml"))
    good.write_text(f'data_dir = "{tmp_path / "a"}"\n')
    bad.write_text(f'data_dir = "{tmp_path / "b"}"\ntick_ms = 1\n')
    ran = raftkv("config", "check", *(f"--config={each}" for each in (good, bad, missing)))
    assert ran.code == 2
    lines = ran.text.splitlines()
    assert lines[0] == f"{good}: valid"
    assert lines[1].startswith(f"{bad}: tick_ms (from file {bad}) is 1, but must be from 5")
    assert "does not exist" in lines[2]
