"""What a caller does about an error, by its class and by its outcome."""

from __future__ import annotations

import asyncio
import sys
from typing import assert_type

import raftkv


async def pay(client: raftkv.Client, order: str) -> str:
    try:
        await client.put(f"order/{order}", "paid", idempotency_key=f"order-{order}")
    except raftkv.OutcomeUnknown as error:
        assert_type(error, raftkv.OutcomeUnknown)
        return "repeat it under the same idempotency key"
    except (raftkv.TooStale, raftkv.NotLeader, raftkv.NoLeader) as error:
        assert_type(error.retry_after_s, float)
        return "try again"
    except raftkv.DiskFull as error:
        assert_type(error.facts, dict[str, str])
        return "free space"
    except raftkv.RaftkvError as error:
        assert_type(error.outcome, raftkv.Outcome)
        return "repeat it" if error.outcome is raftkv.Outcome.SAFE_TO_RETRY else error.message
    return "paid"


async def main(endpoints: str) -> None:
    async with raftkv.connect(endpoints, timeout=10) as client:
        assert await pay(client, "17") == "paid"
        outcome: raftkv.Outcome | None = None
        try:
            await client.put("k", "v", lease=123456789)
        except raftkv.LeaseNotFound as error:
            outcome = error.outcome
        assert outcome is raftkv.Outcome.NOT_APPLIED


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
