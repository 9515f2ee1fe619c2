"""deploy/systemd: the unit is one that systemd takes, and fits the exit codes and the settings."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from raftkv.cli.exit_codes import ExitCode
from raftkv.config_sources import load

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = FOLDER / "raftkv.service"


def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names have capitals
    parser.read_string(UNIT.read_text())
    return parser["Service"]


def verified(unit: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze; Debian's package systemd has it")
    return subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_systemd_finds_no_fault_in_the_unit() -> None:
    found = verified(UNIT)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_check_can_fail(tmp_path: Path) -> None:
    broken = tmp_path / UNIT.name
    broken.write_text(UNIT.read_text().replace("Type=notify", "Type=notifies"))
    assert verified(broken).returncode


def test_ends_that_a_restart_does_not_mend_are_not_restarted() -> None:
    final = {ExitCode.USAGE, ExitCode.STORAGE, ExitCode.INVARIANT, ExitCode.WRONG_CLUSTER}
    assert {int(code) for code in service()["RestartPreventExitStatus"].split()} == final
    assert service()["Restart"] == "on-failure"  # the end of a removed node is 0


def test_the_service_notifies_and_is_watched() -> None:
    assert (service()["Type"], service()["NotifyAccess"]) == ("notify", "main")
    assert int(service()["WatchdogSec"]) >= 30  # a machine under load is not a hung node
    assert service()["RestartSec"] == "30"
    assert service()["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_the_example_of_a_configuration_is_valid_on_each_of_its_machines() -> None:
    lines = (FOLDER / "raftkv.env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert variables["RAFTKV_NODE_ID"] == "1"
    for node_id in ("1", "2", "3"):
        settings = load(
            FOLDER / "raftkv.toml", variables | {"RAFTKV_NODE_ID": node_id}, {}
        ).settings
        settings.require_founder()
        assert settings.advertised.client == f"node{node_id}:7411"
