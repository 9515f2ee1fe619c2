"""A walk over every command and read of the client port, with arguments that ask for the most work.

The steps stand on each other: some make what later ones ask for, and the last ones take it away.
"""

from tests.cluster.adversary import leases_watches_removals, reads_and_transactions, rights
from tests.cluster.adversary.walk import Step, Walk

STEPS: dict[str, Step] = {
    **rights.STEPS,
    **reads_and_transactions.STEPS,
    **leases_watches_removals.STEPS,
}

__all__ = ["STEPS", "Step", "Walk"]
