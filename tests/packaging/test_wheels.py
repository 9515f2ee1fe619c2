"""The two wheels hold what they should, and nothing else."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import raftkv
from tests.packaging.conftest import ROOT, Built, build_here

LICENSE = (ROOT / "LICENSE").read_bytes()
FOLDERS = {"raftkv": ".", "jepsen_lite": "jepsen-lite"}
PROJECTS = {
    package: tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    for package, folder in FOLDERS.items()
}


@pytest.fixture(params=["raftkv", "jepsen_lite"])
def built(request: pytest.FixtureRequest) -> Built:
    found: Built = request.getfixturevalue(f"{request.param}_built")
    return found


def files_of(built: Built) -> dict[str, bytes]:
    with zipfile.ZipFile(built.wheel) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def metadata_of(built: Built) -> Message:
    files = files_of(built)
    (name,) = (each for each in files if each.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(files[name])


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", each)[0] for each in requirements}  # type: ignore[index]


def package_of(built: Built) -> str:
    return built.wheel.name.split("-")[0]


def test_check_wheel_contents_finds_nothing(built: Built) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_wheel_contents", "--no-config", built.wheel],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wheel_has_its_package_its_licence_and_no_stray_file(built: Built) -> None:
    package, files = package_of(built), files_of(built)
    information = f"{package}-{raftkv.__version__}.dist-info"
    folder = ROOT / FOLDERS[package]
    of_the_package = {
        path.relative_to(folder).as_posix()
        for path in (folder / package).rglob("*")
        if path.suffix in {".py", ".pyi", ".j2", ".css", ".js", ".c"} or path.name == "py.typed"
    }
    assert files.keys() == of_the_package | {
        f"{information}/{name}"
        for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    assert files[f"{information}/licenses/LICENSE"] == LICENSE
    assert f"{package}/py.typed" in files


def test_a_wheel_s_metadata_says_whose_it_is(built: Built) -> None:
    metadata, project = metadata_of(built), PROJECTS[package_of(built)]
    assert metadata["Version"] == raftkv.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Summary"] == project["description"]
    assert not [each for each in project["classifiers"] if each.startswith("License ::")]


def test_the_harness_belongs_to_its_version_of_raftkv() -> None:
    assert f"raftkv=={raftkv.__version__}" in PROJECTS["jepsen_lite"]["dependencies"]
    assert PROJECTS["jepsen_lite"]["version"] == raftkv.__version__


def test_what_only_the_harness_needs_is_no_dependency_of_raftkv() -> None:
    assert not names_of(PROJECTS["raftkv"]["dependencies"]) & {"jinja2", "markupsafe", "aetcd"}
    assert names_of(PROJECTS["jepsen_lite"]["dependencies"]) > {"jinja2", "markupsafe", "raftkv"}


def test_each_wheel_has_its_own_command(raftkv_built: Built, jepsen_lite_built: Built) -> None:
    for built, command in ((raftkv_built, "raftkv"), (jepsen_lite_built, "jepsen-lite")):
        assert list(PROJECTS[package_of(built)]["scripts"]) == [command]


def test_the_wheel_that_is_built_from_an_sdist_is_the_same(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        # What `filter="data"` does; the argument came with a later 3.11 than Debian's.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    again = build_here(source, tmp_path / "dist")
    assert files_of(again) == files_of(built)


def test_an_sdist_has_nothing_else(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {each.name.partition("/")[2] for each in archive.getmembers()}
    package = package_of(built)
    assert {"LICENSE", "README.md", "pyproject.toml", f"{package}/__init__.py"} <= names
    assert ("proto/raftkv/rpc/v1/api.proto" in names) == (package == "raftkv")
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert folders == ({package, "proto"} if package == "raftkv" else {package})
    assert not [each for each in names if "/__pycache__/" in each]
