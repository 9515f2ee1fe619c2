"""The sources of settings: flag over environment over file over default, each with its origin.

It reads TOML, `RAFTKV_*` variables and the text forms of values; `raftkv.config` validates them. An
unknown setting is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from raftkv.config import Settings, default_of
from raftkv.errors import ConfigurationError
from raftkv.kv.limits import Limits
from raftkv.raft.entry import Address

ENVIRONMENT_PREFIX = "RAFTKV_"
LIMITS_PREFIX = "limits."

# Variables that other parts of the command line read, or set for a command that they run.
CLIENT_VARIABLES = frozenset(
    {
        *("RAFTKV_CONFIG", "RAFTKV_ENDPOINTS", "RAFTKV_TIMEOUT", "RAFTKV_OUTPUT"),
        *("RAFTKV_USER", "RAFTKV_PASSWORD_FILE", "RAFTKV_TOKEN_FILE"),
        *("RAFTKV_CACERT", "RAFTKV_CERT", "RAFTKV_KEY"),
        *("RAFTKV_LOCK_NAME", "RAFTKV_LOCK_TOKEN"),
    }
)
# Kubernetes puts the addresses of a service named raftkv into every container's environment.
SERVICE_LINK = re.compile(r"RAFTKV_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?)")

# Settings with a flag of their own; `--set name=value` accepts all settings.
FLAGS = (
    *("node_id", "cluster_name", "data_dir"),
    *("client_listen", "peer_listen", "client_advertise", "peer_advertise"),
    *("initial_members", "bootstrap_without", "join"),
    *("cluster_secret_file", "allow_insecure_network", "log_level", "log_format"),
    "trace_messages",
)

DEFAULTS: dict[str, object] = {
    **{each.name: default_of(each) for each in dataclasses.fields(Settings)},
    **{f"{LIMITS_PREFIX}{each.name}": default_of(each) for each in dataclasses.fields(Limits)},
}
del DEFAULTS["limits"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and the origin of each value by its dotted name."""

    settings: Settings
    origins: Mapping[str, str]

    def rows(self) -> list[tuple[str, str, str]]:
        """(name, value as text, origin) of every setting, in the order of their definition."""
        return [(name, as_text(self._value(name)), self.origins[name]) for name in DEFAULTS]

    def as_toml(self) -> str:
        """A configuration file with these settings, each below a comment with its description."""
        docs = {each.name: each.metadata["doc"] for each in dataclasses.fields(Settings)}
        lines: list[str] = []
        for name in DEFAULTS:
            if name in docs:
                lines += [f"# {docs[name]}", f"{name} = {_toml_value(self._value(name))}", ""]
        lines += [f"# {docs['limits']}", "[limits]"]
        for name in DEFAULTS:
            if name.startswith(LIMITS_PREFIX):
                short = name.removeprefix(LIMITS_PREFIX)
                lines.append(f"{short} = {_toml_value(self._value(name))}")
        return "\n".join(lines)

    def _value(self, name: str) -> object:
        return value_of(self.settings, name)


def value_of(settings: Settings, name: str) -> object:
    """The value of a setting by its dotted name."""
    if name.startswith(LIMITS_PREFIX):
        return getattr(settings.limits, name.removeprefix(LIMITS_PREFIX))
    return getattr(settings, name)


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, str | bool]) -> Loaded:
    """Settings from all sources. Raises ConfigurationError that names the key and its origin.

    `flags` maps dotted names to the values that the command line gives, and has no other entries.
    """
    return _build(*_merged(file, environ, flags, _raise))


def check(
    file: Path | None, environ: Mapping[str, str], flags: Mapping[str, str | bool]
) -> tuple[Loaded | None, list[ConfigurationError]]:
    """Every problem that can be told from the sources, and the settings without the invalid values.

    No settings if nothing can be left out. Without a problem the settings are those of `load`.
    """
    problems: list[ConfigurationError] = []
    values, origins = _merged(file, environ, flags, problems.append)
    while True:
        try:
            return _build(values, dict(origins)), problems
        except ConfigurationError as error:
            problems.append(error)
            if values.pop(error.facts["key"], None) is None:
                return None, problems


Report: TypeAlias = Callable[[ConfigurationError], None]
"""What is done with a problem of one value."""


def _raise(error: ConfigurationError) -> None:
    raise error from None


def _merged(
    file: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, str | bool],
    report: Report,
) -> tuple[dict[str, object], dict[str, str]]:
    """The values that the sources give, and the origin of every setting."""
    values: dict[str, object] = {}
    origins = dict.fromkeys(DEFAULTS, "default")
    from_file = _from_file(file, report) if file else {}
    for source in (from_file, _from_environment(environ, report), _from_flags(flags, report)):
        for name, (value, origin) in source.items():
            values[name] = value
            origins[name] = origin
    return values, origins


def _build(values: Mapping[str, object], origins: dict[str, str]) -> Loaded:
    limits = {
        name.removeprefix(LIMITS_PREFIX): value
        for name, value in values.items()
        if name.startswith(LIMITS_PREFIX)
    }
    others = {name: value for name, value in values.items() if not name.startswith(LIMITS_PREFIX)}
    arguments: dict[str, Any] = {**others, "limits": Limits(**_positive(limits, origins))}
    try:
        settings = Settings(**arguments)
    except ConfigurationError as error:
        raise _at(error, origins) from None
    for name in DEFAULTS:
        if origins[name] == "default" and not name.startswith(LIMITS_PREFIX):
            origins[name] = "default" if getattr(settings, name) == DEFAULTS[name] else "derived"
    return Loaded(settings, origins)


Source = Mapping[str, tuple[object, str]]


def _from_file(file: Path, report: Report) -> Source:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        report(
            ConfigurationError(
                f"configuration file {file} does not exist. Fix: correct --config or RAFTKV_CONFIG."
            )
        )
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        report(ConfigurationError(f"configuration file {file} can't be read: {error}."))
        return {}
    origin = f"file {file}"
    flat = {name: value for name, value in document.items() if name != "limits"}
    limits = document.get("limits", {})
    if not isinstance(limits, dict):
        report(_mistyped("limits", limits, origin, "a table of limits"))
        limits = {}
    flat.update({f"{LIMITS_PREFIX}{name}": value for name, value in limits.items()})
    found: dict[str, tuple[object, str]] = {}
    for name, value in flat.items():
        try:
            _check_known(name, name, origin, DEFAULTS)
            found[name] = (_from_toml(name, value, origin), origin)
        except ConfigurationError as error:
            report(error)
    return found


def _from_environment(environ: Mapping[str, str], report: Report) -> Source:
    names = {variable_of(name): name for name in DEFAULTS}
    found: dict[str, tuple[object, str]] = {}
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in CLIENT_VARIABLES:
            continue
        if variable not in names and SERVICE_LINK.fullmatch(variable):
            continue
        origin = f"environment {variable}"
        try:
            _check_known(variable, variable, "the environment", names)
            found[names[variable]] = (_from_text(names[variable], text, origin), origin)
        except ConfigurationError as error:
            report(error)
    return found


def _from_flags(flags: Mapping[str, str | bool], report: Report) -> Source:
    found: dict[str, tuple[object, str]] = {}
    for name, value in flags.items():
        origin = f"flag {flag_of(name)}"
        try:
            _check_known(name, name, "the command line", DEFAULTS)
            parsed = value if isinstance(value, bool) else _from_text(name, value, origin)
            found[name] = (parsed, origin)
        except ConfigurationError as error:
            report(error)
    return found


def variable_of(name: str) -> str:
    """The environment variable of a setting: RAFTKV_NODE_ID, RAFTKV_LIMITS_KEY_BYTES_MAX."""
    return ENVIRONMENT_PREFIX + name.replace(".", "_").upper()


def flag_of(name: str) -> str:
    """The flag of a setting on the command line."""
    return "--" + name.replace("_", "-") if name in FLAGS else f"--set {name}"


def as_text(value: object) -> str:
    """A value in the text form of environment variables."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{node}={at.peer}/{at.client}" for node, at in value.items())
    return str(value)


def _toml_value(value: object) -> str:
    text = as_text(value)
    # A string of JSON is one of TOML.
    return text if isinstance(value, int) else json.dumps(text, ensure_ascii=False)


def parse_members(text: str) -> dict[int, Address]:
    """`1=peer_host:port/client_host:port,2=...`. Raises ValueError."""
    members: dict[int, Address] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        node, equals, addresses = part.partition("=")
        peer, slash, client = addresses.partition("/")
        if not (equals and slash and peer and client):
            raise ValueError(part)
        if int(node) in members:
            raise ValueError(f"node {int(node)} twice")
        members[int(node)] = Address(peer.strip(), client.strip())
    return members


BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _from_text(name: str, text: str, origin: str) -> object:
    default = DEFAULTS[name]
    wanted, parse = _parser(default)
    try:
        return parse(text)
    except (ValueError, KeyError):
        raise _mistyped(name, text, origin, wanted) from None


def _parser(default: object) -> tuple[str, Callable[[str], object]]:
    if isinstance(default, bool):
        return "true or false", lambda text: BOOLEANS[text.strip().lower()]
    if isinstance(default, int):
        return "a whole number", int
    if isinstance(default, Path):
        return "a path", Path
    if isinstance(default, Mapping):
        return MEMBERS_FORM, parse_members
    return "text", str


MEMBERS_FORM = "id=peer_host:port/client_host:port, with a comma between nodes"


def _from_toml(name: str, value: object, origin: str) -> object:
    default = DEFAULTS[name]
    if isinstance(default, bool) or isinstance(value, bool):
        if isinstance(default, bool) and isinstance(value, bool):
            return value
        raise _mistyped(name, value, origin, _parser(default)[0])
    if isinstance(default, int):
        if isinstance(value, int):
            return value
        raise _mistyped(name, value, origin, "a whole number")
    if isinstance(default, Mapping) and isinstance(value, dict):
        return _members_of_table(value, origin)
    if isinstance(value, str):
        return _from_text(name, value, origin)
    raise _mistyped(name, value, origin, f"{_parser(default)[0]} in quotes")


def _members_of_table(table: Mapping[str, Any], origin: str) -> dict[int, Address]:
    form = 'a table for each node, like [initial_members.1] with peer = "..." and client = "..."'
    try:
        members = {int(node): Address(**entry) for node, entry in table.items()}
    except (TypeError, ValueError):
        raise _mistyped("initial_members", dict(table), origin, form) from None
    if not all(isinstance(part, str) for at in members.values() for part in (at.peer, at.client)):
        raise _mistyped("initial_members", dict(table), origin, form)
    return members


def _positive(limits: Mapping[str, Any], origins: Mapping[str, str]) -> Mapping[str, Any]:
    for name, value in limits.items():
        if value < 1:
            key = f"{LIMITS_PREFIX}{name}"
            raise ConfigurationError(
                f"{key} is {value} (from {origins[key]}), but must be at least 1. Fix: raise it.",
                key=key,
                origin=origins[key],
                limit="at least 1",
            )
    return limits


_PREFIXES = re.compile(r"^(RAFTKV_(LIMITS_)?|limits\.)", re.IGNORECASE)


def _check_known(key: str, shown: str, origin: str, known: Mapping[str, object]) -> None:
    if key in known:
        return
    # Names are compared without common prefixes: two names with only a prefix in common differ.
    distinct = {_PREFIXES.sub("", name).lower(): name for name in known}
    alike = difflib.get_close_matches(_PREFIXES.sub("", key).lower(), distinct, n=1)
    near = [distinct[each] for each in alike]
    fix = f"did you mean {near[0]}?" if near else "`raftkv config show` lists every setting."
    raise ConfigurationError(
        f"{shown} (in {origin}) is not a setting. Fix: {fix}", key=key, origin=origin
    )


def _mistyped(name: str, value: object, origin: str, wanted: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} is {value!r} (from {origin}), but must be {wanted}. Fix: correct it there.",
        key=name,
        origin=origin,
        limit=wanted,
    )


def _at(error: ConfigurationError, origins: Mapping[str, str]) -> ConfigurationError:
    key = error.facts["key"]
    origin = origins.get(key, "default")
    message = error.message.replace(f"{key} is ", f"{key} (from {origin}) is ", 1)
    return ConfigurationError(message, key=key, limit=error.facts["limit"], origin=origin)
