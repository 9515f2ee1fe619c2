"""Events of a client that no caller gets as an error: a log for whoever runs the program."""

from __future__ import annotations

import logging
from typing import Any

LOGGER = "raftkv.client"


def log(event: str, **facts: object) -> None:
    """A warning: by structlog if the program has configured that, else by `logging`."""
    import structlog  # most clients log nothing, and need not wait for the import

    logger: Any
    if structlog.is_configured():
        logger = structlog.get_logger(LOGGER)
    else:
        # Left to itself, structlog prints to the standard output, which is the program's.
        logger = structlog.wrap_logger(
            logging.getLogger(LOGGER),
            processors=[structlog.processors.KeyValueRenderer(key_order=["event"])],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
    logger.warning(event, **facts)
