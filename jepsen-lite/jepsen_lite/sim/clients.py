"""The simulated clients: each a process with a production client that its workers share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from jepsen_lite.clients.protocol import NOT_DONE, REVISION_COMPACTED, KvClient, OperationError
from jepsen_lite.clients.raftkv_client import connect
from jepsen_lite.history import History, Kind
from jepsen_lite.recorder import Completion, Recorder
from jepsen_lite.sim.context import SimulationContext
from jepsen_lite.sim.net.client_links import SimulatedClientNetwork
from jepsen_lite.sim.nodes.cluster import Cluster
from jepsen_lite.sim.nodes.host import address_of
from jepsen_lite.sim.process import Process
from jepsen_lite.workloads.base import HistoryReadingWorkload, HoldingWorkload, Invocation, Workload
from jepsen_lite.workloads.catalogue import ANOTHER_MAY_PREVENT
from jepsen_lite.workloads.rights import RightsWorkload, password_of
from raftkv.client.settings import ClientSettings
from raftkv.errors import InvalidRequest
from raftkv.versions import BOUNDED

CONNECT_TIMEOUT_S = 8.0
TIMEOUTS_S = (0.3, 1.0, 3.0)
FINAL_TIMEOUT_S = 10.0
DEFAULTS = ClientSettings()
RIGHTLY_REFUSED = frozenset({NOT_DONE, REVISION_COMPACTED})


@dataclass(frozen=True, slots=True)
class ClientTuning:
    """How the clients are set up; the bounds are by default those of production.

    `known_nodes`: for each client the one node that it knows and stays at, as half of the clients
    of a real run do; "" and beyond the end: it knows all nodes. The first client knows all.
    `padding_max`: as of `raftkv_client.connect`. `lease_readers`: the clients with `lease_reads`.
    """

    known_nodes: tuple[str, ...] = ()
    padding_max: int = 0
    lease_readers: tuple[int, ...] = ()
    page_keys_max: int = DEFAULTS.page_keys_max
    batches_in_flight_max: int = DEFAULTS.batches_in_flight_max
    batch_operations_max: int = DEFAULTS.batch_operations_max
    watch_buffer_bytes_max: int = DEFAULTS.watch_buffer_bytes_max

    def known_node(self, client: int) -> str:
        """The only node that this client knows; "": it knows all of them."""
        return self.known_nodes[client] if client < len(self.known_nodes) else ""

    def settings(self, client: int, session_ttl_ms: int) -> ClientSettings:
        """The production settings of this client."""
        return ClientSettings(
            follow_members=not self.known_node(client),
            session_ttl_ms=session_ttl_ms,
            page_keys_max=self.page_keys_max,
            batches_in_flight_max=self.batches_in_flight_max,
            batch_operations_max=self.batch_operations_max,
            watch_buffer_bytes_max=self.watch_buffer_bytes_max,
        )


@dataclass(frozen=True, slots=True)
class ClientLoad:
    """How many clients and workers there are, and how long a worker waits between operations."""

    clients: int
    workers_per_client: int
    think_s: float
    session_ttl_ms: int
    tuning: ClientTuning


@dataclass(slots=True)
class Outcomes:
    """How many operations of one client succeeded, and how many failed that no other holder may
    have prevented.
    """

    ok: int = 0
    failed: int = 0


class Clients:
    """All client processes of a run, and what their workers do."""

    def __init__(
        self,
        context: SimulationContext,
        cluster: Cluster,
        workloads: Sequence[Workload],
        history: History,
        load: ClientLoad,
    ) -> None:
        world = context.world
        self.hosts = [f"client-{number}" for number in range(1, load.clients + 1)]
        self.outcomes = {host: Outcomes() for host in self.hosts}
        self.final_failures: list[str] = []
        self._world = world
        self._network = context.network
        self._cluster = cluster
        self._workloads = workloads
        self.recorder = Recorder(history, lambda: round(world.now_s * 1e9))
        self._rights = next((each for each in workloads if isinstance(each, RightsWorkload)), None)
        self._workers_per_client = load.workers_per_client
        self._think_s = load.think_s
        self._session_ttl_ms = load.session_ttl_ms
        self._tuning = load.tuning
        self._on_failure = context.on_failure
        self._processes: list[Process] = []
        self._links: list[SimulatedClientNetwork] = []
        self._holders: dict[int, Process] = {}  # by worker
        self._clients: dict[Process, KvClient] = {}
        self._worker_numbers = itertools.count()
        self._stopping = False
        self._busy = 0

    def start(self) -> None:
        """Connect, and begin the load."""
        for host in self.hosts:
            process = Process(  # type: ignore[abstract]  # only what is used
                self._world, host, on_exception=self._on_failure
            )
            self._processes.append(process)
            self._links.append(
                SimulatedClientNetwork(self._world, self._network, self._cluster, process, host)
            )
            process.enter(
                lambda process=process, links=self._links[-1]: process.create_task(
                    self._live(process, links)
                )
            )

    def connected(self) -> bool:
        return len(self._clients) == len(self.hosts)

    def connections(self) -> Iterator[tuple[str, KvClient]]:
        """The client of each process that runs, with its host."""
        for process, client in self._clients.items():
            if process.alive:
                yield process.name, client

    def idle(self) -> bool:
        """No operation is under way."""
        return self._busy == 0

    def stop_load(self) -> None:
        """Begin no new operations."""
        self._stopping = True

    @property
    def served(self) -> list[int]:
        """The clients that must be served: all but those whose only node is no member any more."""
        nodes = map(self._tuning.known_node, range(len(self.hosts)))
        return [
            client
            for client, node in enumerate(nodes)
            if not node or self._cluster.in_service(node)
        ]

    def begin_last_writes(self) -> None:
        """Every client that must be served does one more operation of each workload."""
        rng = self._world.rng("last writes")
        for process in [self._processes[each] for each in self.served]:
            todo = [
                (workload, workload.next(rng, 0))
                for workload in self._workloads
                if workload.name not in ANOTHER_MAY_PREVENT
            ]
            self._begin(process, todo)

    def begin_final_reads(self) -> None:
        """The first client reads everything."""
        todo = [
            (workload, invocation)
            for workload in self._workloads
            for invocation in workload.final()
            if invocation.function in workload.reads
        ]
        todo += [
            (workload, invocation)
            for workload in self._workloads
            if isinstance(workload, HistoryReadingWorkload)
            for invocation in workload.histories()
        ]
        self._begin(self._processes[0], todo)

    def begin_releases(self) -> None:
        """Every worker whose client must be served releases what it still holds."""
        served = [self._processes[each] for each in self.served]
        for worker, process in self._holders.items():
            if process not in served:
                continue
            held = [
                (workload, workload.release(worker))
                for workload in self._workloads
                if isinstance(workload, HoldingWorkload)
            ]
            todo = [(workload, back) for workload, back in held if back is not None]
            if todo:
                self._begin(process, todo, worker)

    def begin(self, client: int, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have that client do this."""
        self._busy += 1
        process = self._processes[client]

        async def live() -> None:
            await act()
            self._busy -= 1

        process.enter(lambda: process.create_task(live()))

    def new_worker(self) -> int:
        """The number of a new worker."""
        return next(self._worker_numbers)

    async def perform(
        self, client: int, worker: int, workload: Workload, invocation: Invocation
    ) -> Completion:
        """In that client's process: one recorded operation."""
        found = self._clients[self._processes[client]]
        return await self.recorder.perform(found, worker, workload, invocation, FINAL_TIMEOUT_S)

    def _begin(
        self,
        process: Process,
        todo: Sequence[tuple[Workload, Invocation]],
        worker: int | None = None,
    ) -> None:
        self._busy += 1
        client = self._clients[process]
        process.enter(lambda: process.create_task(self._do(client, todo, worker)))

    def kill_client(self, client: int) -> None:
        """Kill that process; its machine closes the connections, so that its peers notice."""
        self._links[client].cut()
        self._processes[client].kill()

    def kill(self) -> None:
        for process in self._processes:
            process.kill()

    # ---- in the clients' processes ---------------------------------------------------

    async def _live(self, process: Process, links: SimulatedClientNetwork) -> None:
        rng = self._world.rng(process.name)
        number = self._processes.index(process)
        known = self._tuning.known_node(number)
        logs_in = self._rights is not None
        try:
            client = await connect(
                [address_of(known).client] if known else self._cluster.endpoints,
                padding_max=self._tuning.padding_max,
                lease_reads=number in self._tuning.lease_readers,
                timeout=CONNECT_TIMEOUT_S,
                settings=self._tuning.settings(number, self._session_ttl_ms),
                links=links.link,
                rng=self._world.rng(f"{process.name}/client"),
                user=process.name if logs_in else None,
                password=password_of(process.name) if logs_in else None,
            )
        except OperationError as error:
            self._on_failure(f"{process.name} could not connect: {error}")
            return
        self._clients[process] = client
        for _ in range(self._workers_per_client):
            process.create_task(self._work(process, client, Random(rng.getrandbits(64))))

    async def _work(self, process: Process, client: KvClient, rng: Random) -> None:
        worker = next(self._worker_numbers)
        self._holders[worker] = process
        if self._rights is not None:
            self._rights.users[worker] = process.name
        while not self._stopping:
            await asyncio.sleep(rng.expovariate(1 / self._think_s))
            if self._stopping:
                return
            workload = rng.choice(self._workloads)
            self._busy += 1
            invocation = workload.next(rng, worker)
            ended = await self.recorder.perform(
                client, worker, workload, invocation, rng.choice(TIMEOUTS_S)
            )
            self._busy -= 1
            outcomes = self.outcomes[process.name]
            if ended.kind is Kind.OK or ended.refused:
                outcomes.ok += 1
            elif workload.name not in ANOTHER_MAY_PREVENT:
                outcomes.failed += 1

    async def _do(
        self, client: KvClient, todo: Sequence[tuple[Workload, Invocation]], worker: int | None
    ) -> None:
        worker = next(self._worker_numbers) if worker is None else worker
        for workload, invocation in todo:
            ended = await self.recorder.perform(
                client, worker, workload, invocation, FINAL_TIMEOUT_S
            )
            if ended.kind is not Kind.OK and not self._rightly_refused(ended):
                self.final_failures.append(
                    f"{invocation.function} on {invocation.key} ended with {ended.reason}"
                )
        self._busy -= 1

    def _rightly_refused(self, ended: Completion) -> bool:
        if ended.reason in RIGHTLY_REFUSED:
            return True
        # There are pages and limits of ranges from the cluster version BOUNDED on.
        too_old = self._cluster.version < BOUNDED
        return too_old and ended.reason == InvalidRequest.reason
