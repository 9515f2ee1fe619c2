"""The log of a client, for events that no caller gets as an error."""

from __future__ import annotations

import logging
from typing import Any

LOGGER = "raftkv.client"


def log(event: str, **facts: object) -> None:
    """Log a warning: by structlog if the program has configured that, else by `logging`."""
    import structlog  # imported late: most clients log nothing

    logger: Any
    if structlog.is_configured():
        logger = structlog.get_logger(LOGGER)
    else:
        # Not configured, structlog would print to the program's standard output.
        logger = structlog.wrap_logger(
            logging.getLogger(LOGGER),
            processors=[structlog.processors.KeyValueRenderer(key_order=["event"])],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
    logger.warning(event, **facts)
