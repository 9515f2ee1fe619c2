"""Reading and writing keys with the asynchronous client, every result with its type."""

from __future__ import annotations

import asyncio
import sys
from typing import assert_type

import raftkv


async def main(endpoints: str) -> None:
    async with raftkv.connect(endpoints, timeout=10) as client:
        assert_type(client, raftkv.Client)
        put = await client.put("stock/apples", "7", idempotency_key="delivery-1")
        assert_type(put, raftkv.PutResult)
        apples = await client.get("stock/apples")
        assert_type(apples, raftkv.KeyValue | None)
        assert apples is not None
        assert apples.value == b"7"

        swap = await client.compare_and_swap("stock/apples", apples.mod_revision, "6")
        assert_type(swap, raftkv.SwapResult)
        assert swap.swapped

        condition = raftkv.when.value("stock/apples") == "6"
        assert_type(condition, raftkv.Compare)
        sold = await client.txn(
            compare=[condition],
            success=[raftkv.op.put("stock/apples", "5"), raftkv.op.get("stock/apples")],
        )
        assert_type(sold, raftkv.TransactionResult)
        assert_type(sold.responses, tuple[raftkv.OperationResult, ...])
        assert sold.succeeded

        page = await client.range(prefix="stock/", sort=raftkv.Sort.MOD_REVISION, descending=True)
        assert_type(page, raftkv.RangeResult)
        async for kv in client.scan(prefix="stock/"):
            assert_type(kv, raftkv.KeyValue)

        found = await client.read("stock/apples", level=raftkv.bounded(max_staleness=0.5))
        assert_type(found, raftkv.Reading)
        assert_type(found.staleness, float | None)
        stale = await client.get("stock/apples", level=raftkv.ReadLevel.STALE)
        assert_type(stale, raftkv.KeyValue | None)

        async def sell(tx: raftkv.Transaction) -> int:
            left = int(await tx.get("stock/apples") or 0) - 1
            tx.put("stock/apples", str(left))
            return left

        left = await client.transaction(sell)
        assert_type(left, int)
        assert left == 4

        deleted = await client.delete_prefix("stock/")
        assert_type(deleted, raftkv.DeleteResult)
        assert deleted.deleted == 1


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
