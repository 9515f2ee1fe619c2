"""The generated pages of docs/reference: errors, settings, metrics and commands, from the code.

`python scripts/docs_reference.py` writes them; `--check` fails if one differs from what it would
write. `tests/docs/test_references.py` does the same.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import raftkv
from raftkv import errors
from raftkv.cli import exit_codes
from raftkv.cli.main import app
from raftkv.client.settings import ClientSettings
from raftkv.config import LIVE_SETTINGS, Settings
from raftkv.config_sources import DEFAULTS, ENVIRONMENT_PREFIX
from raftkv.kv.limits import Limits
from raftkv.metrics.histogram import SECONDS
from raftkv.metrics.table import METRICS, Metric

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
GENERATED = "<!-- Written by scripts/docs_reference.py from the code. Do not edit by hand. -->\n"

OUTCOMES = {
    "NOT_APPLIED": "It did not happen. The same request will fail again: change something first.",
    "SAFE_TO_RETRY": "It did not happen. The same request may work later, here or elsewhere.",
    "MAYBE_APPLIED": "It may have happened, or may happen yet. Read the key back, or repeat the"
    " write under the same idempotency key.",
}


def pages() -> dict[str, str]:
    """Each generated page by its file name."""
    return {
        "errors.md": errors_page(),
        "settings.md": settings_page(),
        "metrics.md": metrics_page(),
        "cli.md": cli_page(),
    }


# ---- errors ----------------------------------------------------------------------------


def errors_page() -> str:
    tree = inspect.cleandoc(errors.__doc__ or "")
    tree = tree[tree.index("RaftkvError") : tree.index("`outcome` decides")].rstrip()
    rows = [
        f"| `{kind.__name__}` | `{kind.reason}` | {kind.outcome} | {_exit_code(kind)} |"
        f" {_imported_from(kind)} | {_cell(kind.__doc__ or '')} |"
        for kind in _family(errors.RaftkvError)
    ]
    outcomes = [f"| {errors.Outcome[name]} | {text} |" for name, text in OUTCOMES.items()]
    return "\n".join(
        [
            GENERATED,
            "# Errors",
            "",
            "Every exception that raftkv raises on purpose is a `RaftkvError`. It has",
            "",
            "- `outcome`: what is known about the operation (first table);",
            "- `reason`: a stable name for machines, the same on the wire and in `-o json`;",
            "- `retry_after_s`: the server's advice when to try again, 0 if it has none;",
            "- `facts`: machine-readable details, all strings;",
            "- `message`: what happened and what to do.",
            "",
            "| outcome | what a caller may do |",
            "|---|---|",
            *outcomes,
            "",
            "An error rebuilt from the wire has the outcome that the server stated. It may differ"
            " from the outcome of its class.",
            "`InvariantViolation` is no `RaftkvError` and no `Exception`: a safety check failed and"
            " the node stops.",
            "",
            "## Families",
            "",
            "```text",
            inspect.cleandoc("    " + tree),
            "```",
            "",
            "## All errors",
            "",
            "| error | reason | outcome | [exit code](../exit-codes.md) | import from | meaning |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _family(root: type[errors.RaftkvError]) -> Iterator[type[errors.RaftkvError]]:
    """The errors of `raftkv.errors`, parents before their children, in order of definition."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _family(child)


def _exit_code(kind: type[errors.RaftkvError]) -> int:
    return int(exit_codes.exit_code_of(kind("")))


def _imported_from(kind: type[errors.RaftkvError]) -> str:
    return "`raftkv`" if kind.__name__ in raftkv.__all__ else "`raftkv.errors`"


# ---- settings --------------------------------------------------------------------------


def settings_page() -> str:
    return "\n".join(
        [
            GENERATED,
            "# Settings",
            "",
            "`raftkv config show --origin` prints all settings that `raftkv serve` would start"
            " with, and where each comes from.",
            "",
            "## Of a node",
            "",
            "A setting is a flag of `raftkv serve`, an environment variable"
            f" (`{ENVIRONMENT_PREFIX}` and the name in capitals, dots as underscores) or a key"
            " of the TOML file of `--config`. A flag precedes a variable, a variable the file."
            " Settings without a flag of their own take `--set NAME=VALUE`.",
            "",
            "A running node applies a changed setting that is marked `live` when it gets SIGHUP or"
            " `raftkv config reload`: log_level at once, bounds of watches for streams that are"
            " opened from then on, the others for later requests. All others need a restart.",
            "",
            "| setting | default | range | flag | changes | meaning |",
            "|---|---|---|---|---|---|",
            *(
                _setting_row(field)
                for field in dataclasses.fields(Settings)
                if field.name != "limits"
            ),
            "",
            "### Limits of requests",
            "",
            "`limits.NAME` in `--set`; in the TOML file a table `[limits]`. [Limits](../limits.md)"
            " says what happens over them.",
            "",
            "| setting | default |",
            "|---|---|",
            *(
                f"| `limits.{field.name}` | {DEFAULTS['limits.' + field.name]} |"
                for field in dataclasses.fields(Limits)
            ),
            "",
            "## Of a client",
            "",
            "`raftkv.connect(endpoints, settings=raftkv.ClientSettings(...))`. The unit is the end"
            " of each name.",
            "",
            "| setting | default |",
            "|---|---|",
            *(
                f"| `{field.name}` | {field.default} |"
                for field in dataclasses.fields(ClientSettings)
            ),
            "",
        ]
    )


def _setting_row(field: dataclasses.Field[Any]) -> str:
    minimum, maximum = field.metadata.get("minimum"), field.metadata.get("maximum")
    span = "" if minimum is None else f"{minimum} to {maximum}"
    default = DEFAULTS[field.name]
    shown = "" if default in ("", {}, Path()) else str(default)
    if isinstance(default, bool):
        shown = str(default).lower()
    flag = f"--{field.name.replace('_', '-')}"
    flag = f"`{flag}`" if flag in _serve_flags() else "`--set`"
    changes = "live" if field.name in LIVE_SETTINGS else "restart"
    meaning = _cell(field.metadata["doc"])
    return f"| `{field.name}` | {shown} | {span} | {flag} | {changes} | {meaning} |"


def _serve_flags() -> set[str]:
    root: Any = typer.main.get_command(app)
    return {flag for each in root.commands["serve"].params for flag in each.opts}


# ---- metrics ---------------------------------------------------------------------------


def metrics_page() -> str:
    buckets = ", ".join(format(bound, "g") for bound in SECONDS)
    return "\n".join(
        [
            GENERATED,
            "# Metrics",
            "",
            "`/metrics` of the [HTTP port](../operations/monitoring.md) has these metrics, and the"
            " `process_` metrics of Prometheus' own client. The values are at most 1.25 s old, and"
            " `raftkv_report_age_seconds` says how much older while the node stalls. Counters and"
            " histograms begin at 0 when the process starts. A node that does not serve has only"
            " those of the process and `raftkv_in_service`.",
            "",
            f"Histograms have buckets up to {buckets} seconds.",
            "",
            "| metric | type | labels | meaning |",
            "|---|---|---|---|",
            *(_metric_row(metric) for metric in METRICS),
            "",
        ]
    )


def _metric_row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {_cell(metric.meaning)} |"


# ---- commands --------------------------------------------------------------------------


def cli_page() -> str:
    root = typer.main.get_command(app)
    parts = [
        GENERATED,
        "# Commands",
        "",
        "`raftkv COMMAND --help` prints the same on a terminal. See also [the command line]"
        "(../command-line.md), [exit codes](../exit-codes.md) and [signals](../signals.md).",
        "",
        "## raftkv",
        "",
        *_command(root),
    ]
    for name, command in _commands(root, "raftkv"):
        parts += [f"## {name}", "", *_command(command)]
    return "\n".join(parts)


def _commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{prefix} {name}", command
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix} {name}")


def _command(command: Any) -> list[str]:
    lines = [_prose(command.help or ""), ""]
    hidden = {"--help", "--install-completion", "--show-completion"}
    shown = [each for each in command.params if not hidden & set(each.opts) and not each.hidden]
    if shown:
        lines += ["| argument or option | default | meaning |", "|---|---|---|"]
        lines += [_parameter(each) for each in shown]
        lines.append("")
    return lines


def _parameter(each: Any) -> str:
    is_option = each.param_type_name == "option"
    names = [*each.opts, *each.secondary_opts] if is_option else [each.name.upper()]
    default = "" if each.default in (None, False, (), []) else str(each.default)
    if is_option and each.is_flag:
        default = ""
    if not is_option and not each.required and not default:
        default = "optional"
    if each.envvar:
        default = f"{default} (`{each.envvar}`)".strip()
    return f"| {' '.join(f'`{name}`' for name in names)} | {_cell(default)} | {_cell(each.help)} |"


def _prose(text: str) -> str:
    """Rich's markup as Markdown."""
    plain = re.sub(r"\[/?bold\]", "`", inspect.cleandoc(text)).replace("``", "`")
    return plain.replace("<", "&lt;")


def _cell(text: str | None) -> str:
    return _prose(" ".join((text or "").split())).replace("|", "\\|")


def main() -> int:
    checking = sys.argv[1:] == ["--check"]
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = REFERENCE / name
        if checking and (not path.exists() or path.read_text() != text):
            print(f"{path} is out of date: run scripts/docs", file=sys.stderr)
            return 1
        if not checking:
            path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
