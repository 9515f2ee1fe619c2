"""The model is written from documents and protos: it shares no code with what it judges."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .test_layers import PACKAGE, imported

MODEL = PACKAGE / "model"
MODULES = sorted(path.stem for path in MODEL.glob("*.py") if path.stem != "__init__")
MESSAGES = "raftkv.rpc.v1"


def is_allowed(name: str) -> bool:
    return name.startswith((MESSAGES, "jepsen_lite.model")) or (
        name.partition(".")[0] in sys.stdlib_module_names
    )


def test_the_model_imports_itself_and_the_generated_messages_only() -> None:
    found = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in MODEL.rglob("*.py")
        for name in imported(path)
        if not is_allowed(name)
    ]
    assert MODULES
    assert found == []


def test_nothing_of_the_state_machine_is_loaded_with_the_model(tmp_path: Path) -> None:
    """What an allowed module imports counts, too."""
    imports = ", ".join(f"jepsen_lite.model.{name}" for name in MODULES)
    program = f"import sys, {imports}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "jepsen_lite.model.machine" in loaded
    judged = ("raftkv.kv", "raftkv.raft", "raftkv.node", "raftkv.storage", "raftkv.wire")
    assert [name for name in loaded if name.startswith(judged)] == []
