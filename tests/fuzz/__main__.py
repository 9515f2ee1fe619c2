"""`python -m tests.fuzz --seconds N --seed S`: exit code 0 if nothing was found, else 1."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from tests.fuzz.campaign import Campaign

SEEDS = 1_000_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long; default 600")
    parser.add_argument("--seed", type=int, help="of all that is sent; default: any")
    chosen = parser.parse_args()
    seed = SystemRandom().randrange(SEEDS) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", flush=True)
    base = Path(tempfile.mkdtemp(prefix="raftkv-fuzz-"))
    outcome = asyncio.run(Campaign(base, seed, chosen.seconds).run())
    print(outcome)
    print(f"logs and data: {base}")
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
