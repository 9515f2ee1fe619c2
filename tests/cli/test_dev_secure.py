"""`raftkv dev --secure` prints commands that work, in a shell that has nothing but them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_real_processes import ROOT, free_block

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

OWN = "raftkv dev |"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The lines that the command prints itself, until it is ready."""
    first = free_block(6)
    dev = subprocess.Popen(
        [
            *(sys.executable, "-m", "raftkv", "dev", "--secure", "--log-level", "warning"),
            *("--data-dir", str(tmp_path_factory.mktemp("dev"))),
            *("--client-port", str(first), "--peer-port", str(first + 3)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RAFTKV_USER": "of another cluster"},
    )
    assert dev.stdout is not None
    lines: list[str] = []
    try:
        for line in dev.stdout:
            if line.startswith(OWN):
                lines.append(line.removeprefix(OWN).strip())
            if "Ctrl-C stops it" in line:
                break
        yield lines
    finally:
        dev.terminate()
        dev.communicate(timeout=30)


def shell(printed: list[str], *commands: str) -> subprocess.CompletedProcess[str]:
    exports = [line for line in printed if line.startswith("export ")]
    environment = {name: each for name, each in os.environ.items() if "RAFTKV" not in name}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(
        ["sh", "-euc", "\n".join([*exports, *commands])],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_printed_commands_work(printed: list[str]) -> None:
    commands = [line for line in printed if line.startswith(("raftkv put", "raftkv get"))]
    assert len(commands) == 2
    done = shell(printed, *commands, "raftkv auth status")
    assert done.returncode == 0, done.stderr
    assert "world" in done.stdout
    assert "enabled        True" in done.stdout
    assert "user           root" in done.stdout


def test_the_password_is_in_a_file_of_its_owner_and_is_not_printed(printed: list[str]) -> None:
    (line,) = (each for each in printed if "RAFTKV_PASSWORD_FILE=" in each)
    file = Path(line.partition("RAFTKV_PASSWORD_FILE=")[2])
    assert file.stat().st_mode & 0o077 == 0
    assert file.read_text().strip() not in "\n".join(printed)


def test_without_user_or_without_tls_nothing_is_served(printed: list[str]) -> None:
    done = shell(printed, "unset RAFTKV_USER; raftkv get hello")
    assert done.returncode == 6
    assert "requires authentication" in done.stderr
    done = shell(
        printed, "RAFTKV_ENDPOINTS=${RAFTKV_ENDPOINTS#raftkvs://} RAFTKV_CACERT= raftkv get hello"
    )
    assert done.returncode == 4


def test_a_user_is_made_gets_rights_and_a_token_and_is_held_to_them(
    printed: list[str], tmp_path: Path
) -> None:
    made = shell(
        printed,
        f"cd {tmp_path}",
        "echo secret-of-ann > ann.pw",
        "raftkv user add ann --password-file ann.pw",
        "raftkv role add app",
        "raftkv role grant app readwrite app/ --prefix",
        "raftkv user grant ann app",
        "raftkv user get ann",
        "raftkv role get app",
        "raftkv token create --user ann --ttl 1h > made",
        "sed -n 's/^token *//p' made > ann.token",
        "raftkv --token-file ann.token put app/k v",
        "raftkv get app/k --user ann < /dev/null || echo refused to ask without a terminal",
        "raftkv --user ann --password-file ann.pw get app/k",
        "raftkv --token-file ann.token put other v || echo denied $?",
    )
    assert made.returncode == 0, made.stderr
    for expected in ("app/ --prefix", "denied 6", "refused to ask without a terminal"):
        assert expected in made.stdout
    assert "lacks write access to the key 'other'" in made.stderr
