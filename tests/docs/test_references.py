"""The reference pages say what the code says."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import raftkv
from raftkv import errors
from raftkv.cli.exit_codes import ExitCode
from raftkv.config import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "docs_reference", ROOT / "scripts" / "docs_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["errors.md", "settings.md", "cli.md"])
def test_a_generated_page_is_what_the_code_makes_it(name: str) -> None:
    made = generator().pages()[name]
    assert (DOCS / "reference" / name).read_text() == made, "run scripts/docs"


def test_every_error_is_on_the_errors_page() -> None:
    text = (DOCS / "reference" / "errors.md").read_text()
    assert len(errors.BY_REASON) > 40
    for reason, kind in errors.BY_REASON.items():
        assert f"| `{kind.__name__}` | `{reason}` | {kind.outcome} |" in text


def test_every_setting_is_on_the_settings_page() -> None:
    text = (DOCS / "reference" / "settings.md").read_text()
    for field in dataclasses.fields(Settings):
        assert field.name == "limits" or f"| `{field.name}` |" in text


def test_every_exit_code_is_on_its_page() -> None:
    rows = re.findall(r"^\| (\d+) \|", (DOCS / "exit-codes.md").read_text(), re.MULTILINE)
    assert {int(code) for code in rows} == {int(code) for code in ExitCode}


def test_every_public_name_is_in_the_python_reference() -> None:
    """A name of `raftkv.__all__` has a docstring directive, or is an error on its page."""
    text = "".join(path.read_text() for path in (DOCS / "reference").glob("python*.md"))
    text += (DOCS / "reference" / "errors.md").read_text()
    missing = [
        name
        for name in raftkv.__all__
        if name != "__version__"
        and not re.search(rf"(::: [\w.]+\.{name}$|\| `{name}` \|)", text, re.MULTILINE)
    ]
    assert not missing, missing


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for path in DOCS.rglob("*.md"):
        name = str(path.relative_to(DOCS))
        assert name in navigation, f"{name} is not in mkdocs.yml"


def test_every_link_to_a_file_leads_to_one() -> None:
    """The site's build finds those between its pages; this holds for the README as well."""
    for path in (ROOT / "README.md", *DOCS.rglob("*.md")):
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name} links to {target}"
