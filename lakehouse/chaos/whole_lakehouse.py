"""`bench faults --whole`: kill the processes of a `lakehouse up` under load, one kind after another, and all at once.

The only repair is `lakehouse up`, as after a restart of the machine. Files under `incoming/` reach gold by the sensors and
the queue. Events over HTTP reach bronze by a command, which stands for the nightly schedule.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil

from lakehouse.automation.runs import Runner, raise_on_failure
from lakehouse.bench.figures import Figure, figure
from lakehouse.chaos.faults import MIXED
from lakehouse.chaos.faulty_lake import (
    TIMEOUT_SECONDS,
    Count,
    FaultyStorage,
    count,
    days,
    environment,
    faulty_storage,
    http_workers,
)
from lakehouse.chaos.sender import STREAM, Events, Sender, event
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.processes.child import (
    kill,
    leave_running,
    process_tree,
    python_command,
    spawn,
    stop_child,
    wait_for_exit,
    wait_until_ready,
)
from lakehouse.runtime import supervisor
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage

KINDS = (
    "http worker", "http", "serving", "code-server", "warm-runs", "daemon", "run", "storage", "supervisor", "everything",
)  # fmt: skip
"""Kinds of process to kill, in turn."""

ROUND_SECONDS = 12.0
"""Seconds of a round, with its kill at a random moment. Sensors run every 30 seconds."""

ROUNDS_PER_COUNT = 5
FAULT_RATIOS = (0.0, 0.02, 0.05)
UP_SECONDS = 300.0
SETTLING_SECONDS = 300.0
"""Seconds within which everything must be computed. Two sensors in sequence take a minute of it."""

POLL_INTERVAL_SECONDS = 3.0


class WholeLakehouse:
    """A lakehouse run by `lakehouse up`, with storage started separately behind an unreliable network."""

    def __init__(self, faulty: FaultyStorage) -> None:
        self.network = faulty.network
        self.embedded = Settings(home=faulty.home, storage="embedded")
        self.variables = {**faulty.variables, "LAKEHOUSE_HOME": str(faulty.home), "LAKEHOUSE_QUERY_WORKERS": "1"}
        with environment(self.variables):
            self.settings = Settings()
        self.direct = Lake(self.embedded, faulty.connection)
        self.stream = self.direct.stream(STREAM)
        self.events = Events()
        self.killed: Counter[str] = Counter()
        self._log = faulty.home / "logs" / "up.log"

    def up(self) -> None:
        """Run `lakehouse up` until everything runs. Raises AssertionError if that fails."""
        command = python_command("lakehouse", "up", "--no-ui")
        child = spawn(command, self._log, env=os.environ | self.variables)

        def is_ready() -> bool:
            state = supervisor.read_state(self.settings)
            return state is not None and state.ready and state.supervisor.pid == child.pid

        if wait_until_ready(is_ready, lambda: child.poll() is None, UP_SECONDS, poll_seconds=0.1):
            leave_running(child)
            return
        stop_child(child, supervisor.STOP_SECONDS)
        raise AssertionError(f"`lakehouse up` did not start: {self._log.read_text()[-500:]}")

    def down(self) -> None:
        """Stop everything. Raises AssertionError if a process is left."""
        family = self._family()
        supervisor.stop(self.settings)
        left = wait_for_exit(family, 10)
        kill(left)
        if left:
            raise AssertionError(f"{len(left)} processes are left after `lakehouse down`")

    def kill(self, kind: str) -> None:
        """Kill -9 one kind of process, and restart storage or the supervisor if it was killed."""
        if kind == "everything":
            victims = [*self._family(), *self._processes("storage")]
        elif kind == "run" and not self._wait_for(lambda: bool(self._processes("run"))):
            return
        else:
            victims = self._processes(kind)
        kill(victims)
        self.killed[kind] += bool(victims)
        if kind in ("storage", "everything"):
            storage.start(self.embedded)
        if kind in ("supervisor", "everything"):
            self.network.share = 0.0
            self.up()

    def _processes(self, kind: str) -> list[psutil.Process]:
        if kind == "storage":
            pid = storage.status(self.embedded).pid
            return [psutil.Process(pid)] if pid else []
        if kind == "http worker":
            return http_workers(self.settings)[:1]
        state = supervisor.read_state(self.settings)
        children = [state.supervisor, *state.children] if state else []
        running = {child.name: process for child in children if (process := child.process) is not None}
        if kind == "run":
            with suppress(KeyError, psutil.NoSuchProcess):
                return running["warm-runs"].children()[:1]
            return []
        return [running[kind]] if kind in running else []

    def _family(self) -> list[psutil.Process]:
        """Return the supervisor and all its descendants."""
        state = supervisor.read_state(self.settings)
        family: dict[int, psutil.Process] = {}
        for child in [state.supervisor, *state.children] if state else []:
            if process := child.process:
                family |= {member.pid: member for member in process_tree(process)}
        return list(family.values())

    def _wait_for(self, condition: Callable[[], bool], seconds: float = ROUND_SECONDS) -> bool:
        deadline = time.monotonic() + seconds
        while not (done := condition()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return done

    def play(self, rng: random.Random, kind: str) -> None:
        """Run one round: events over HTTP, a file, and a kill of this kind."""
        self.network.share, self.network.kinds = rng.choice(FAULT_RATIOS), MIXED
        sender = Sender(self.events, rng, self._url)
        sender.start()
        keys = self.events.draw(rng)
        lines = [json.dumps(event(key, self.events.sent[key])) for key in keys]
        self.direct.objects.put(f"incoming/{STREAM}/{rng.getrandbits(32):08x}.ndjson", "\n".join(lines).encode())
        self.events.acknowledged.update(keys)
        started, at = time.monotonic(), rng.uniform(0.0, ROUND_SECONDS)
        time.sleep(at)
        self.kill(kind)
        time.sleep(max(0.0, started + ROUND_SECONDS - time.monotonic()))
        sender.join(TIMEOUT_SECONDS)
        if sender.is_alive() or sender.error:
            raise AssertionError(sender.error or "the HTTP server does not answer")

    def _url(self) -> str | None:
        service = http_server.running(self.settings)
        return service.url if service else None

    def settle(self) -> Count:
        """Wait over a good network until everything is computed and every program runs; return what is still wrong."""
        self.network.share = 0.0
        with suppress(LakehouseError):  # the sensors retry what failed
            raise_on_failure(Runner(self.direct).land(self.stream, days()))
        deadline = time.monotonic() + SETTLING_SECONDS
        while True:
            result = count(self.direct, self.stream, self.events)
            result.wrong += self._missing()
            if result.passed or time.monotonic() > deadline:
                return result
            time.sleep(POLL_INTERVAL_SECONDS)

    def _missing(self) -> list[str]:
        state = supervisor.read_state(self.settings)
        return [f"{child.name} does not run" for child in (state.children if state else []) if child.process is None]


@contextmanager
def whole_lakehouse(seed: int) -> Iterator[WholeLakehouse]:
    """Run a whole lakehouse in a temporary folder, behind a network that is good to begin with."""
    with faulty_storage(seed) as faulty, ExitStack() as stack:
        whole = WholeLakehouse(faulty)
        stack.callback(whole.direct.engine.close)
        stack.callback(supervisor.stop, whole.settings)
        whole.up()
        yield whole


def measure(rounds: int, seed: int) -> Iterator[Figure]:
    """Yield the figures after `rounds` rounds. Raises AssertionError with the rounds' seeds at the first wrong count."""
    started, longest = time.monotonic(), 0.0
    with whole_lakehouse(seed) as whole:
        for first in range(0, rounds, ROUNDS_PER_COUNT):
            seeds = range(seed + first, seed + min(first + ROUNDS_PER_COUNT, rounds))
            for number in seeds:
                whole.play(random.Random(number), KINDS[number % len(KINDS)])  # noqa: S311
                if sys.stderr.isatty():
                    print(f"round {number - seed + 1} of {rounds}, {dict(whole.killed)}", file=sys.stderr)
            settling = time.monotonic()
            result = whole.settle()
            longest = max(longest, time.monotonic() - settling)
            if not result.passed:
                raise AssertionError(f"rounds of seeds {seeds.start} to {seeds.stop - 1}: {result}")
        whole.down()
        met = whole.network.counts
        yield figure(
            "faults", "rounds of a whole `up`", rounds, "", seed=seed, seconds=round(time.monotonic() - started)
        )
        yield figure("faults", "kills", whole.killed.total(), "", **whole.killed)
        yield figure("faults", "requests that met a fault", met.total() - met["none"], "", **met)
        yield figure("faults", "events acknowledged", len(whole.events.acknowledged), "", sent_again=whole.events.again)
        yield figure("faults", "longest until all was computed", longest, "s")
        yield figure("faults", "lost", 0, "", 0)
        yield figure("faults", "twice", 0, "", 0)
