"""What this process and its disk look like to the operating system."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
from functools import cache
from pathlib import Path


@cache
def version() -> str:
    """The version of raftkv that runs; "unknown" in a checkout that was never installed."""
    # Read from the package's metadata, which costs a millisecond; every status tells it.
    try:
        return importlib.metadata.version("raftkv")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def memory_bytes() -> int:
    """Resident memory now; where /proc is missing, its highest so far."""
    try:
        resident_pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


def disk_free_bytes(directory: Path) -> int:
    """Space left to us on the disk of `directory`; 0 if the system does not say."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return 0
