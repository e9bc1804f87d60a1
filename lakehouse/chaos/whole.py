"""`bench faults --whole`: a whole `lakehouse up` under load whose processes are killed, one kind after another, and all at once.

Nothing is done for it but what a machine that starts again does: `lakehouse up`. Files under `incoming/` go all the way by
its sensors and its queue; what came over HTTP goes to bronze by a command, as each night by a schedule.
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
from lakehouse.bench.measuring import Figure, figure
from lakehouse.bench.sending import STREAM, Events, Sender, event
from lakehouse.chaos.faults import MIXED
from lakehouse.chaos.faulty import PATIENCE, Count, Place, count, days, environment, faulty_storage, http_workers
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.processes.child import (
    kill,
    leave_running,
    process_tree,
    spawn,
    stop_child,
    wait_for_exit,
    wait_until_ready,
)
from lakehouse.runtime import supervisor
from lakehouse.settings import Settings
from lakehouse.sources.http import server as http
from lakehouse.storage.embedded import lifecycle as storage

KINDS = (
    "http worker", "http", "serving", "code-server", "warm-runs", "daemon", "run", "storage", "supervisor", "everything",
)  # fmt: skip
"""What is killed; each of several rounds begins where the last ended."""

ROUND_SECONDS = 12.0
"""In which a round's kill happens; sensors look every thirty."""

BETWEEN_COUNTS = 5
WEATHER = (0.0, 0.02, 0.05)
UP_SECONDS = 300.0
SETTLING_SECONDS = 300.0
"""After which who has not caught up never will; two sensors, one after the other, take one minute of it."""

LOOK_SECONDS = 3.0


class Whole:
    """A lakehouse that `lakehouse up` runs, its storage started apart and reached through the weather."""

    def __init__(self, place: Place) -> None:
        self.weather = place.weather
        self.embedded = Settings(home=place.home, storage="embedded")
        self.variables = {**place.variables, "LAKEHOUSE_HOME": str(place.home), "LAKEHOUSE_QUERY_WORKERS": "1"}
        with environment(self.variables):
            self.settings = Settings()
        self.calm = Lake(self.embedded, place.connection)
        self.stream = self.calm.stream(STREAM)
        self.events = Events()
        self.killed: Counter[str] = Counter()
        self._log = place.home / "logs" / "up.log"

    def up(self) -> None:
        """`lakehouse up`, until it says that all runs. Raises AssertionError when it never does."""
        command = [sys.executable, "-m", "lakehouse", "up", "--no-ui"]
        child = spawn(command, self._log, env=os.environ | self.variables)

        def is_ready() -> bool:
            state = supervisor.read_state(self.settings)
            return state is not None and state.ready and state.supervisor.pid == child.pid

        if wait_until_ready(is_ready, lambda: child.poll() is None, UP_SECONDS, poll_seconds=0.1):
            leave_running(child)
            return
        stop_child(child, supervisor.STOP_SECONDS)
        raise AssertionError(f"`lakehouse up` does not come up: {self._log.read_text()[-500:]}")

    def down(self) -> None:
        """Stop it in order. Raises AssertionError when something goes on."""
        family = self._family()
        supervisor.stop(self.settings)
        left = wait_for_exit(family, 10)
        kill(left)
        if left:
            raise AssertionError(f"{len(left)} processes outlive `lakehouse down`")

    def kill(self, kind: str) -> None:
        """Kill -9 one kind of process, and start again what nobody starts."""
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
            self.weather.share = 0.0
            self.up()

    def _processes(self, kind: str) -> list[psutil.Process]:
        if kind == "storage":
            pid = storage.status(self.embedded).pid
            return [psutil.Process(pid)] if pid else []
        if kind == "http worker":
            return http_workers(self.settings)[:1]
        state = supervisor.read_state(self.settings)
        children = [state.supervisor, *state.children] if state else []
        found = {child.name: process for child in children if (process := child.process) is not None}
        if kind == "run":
            with suppress(KeyError, psutil.NoSuchProcess):
                return found["warm-runs"].children()[:1]
            return []
        return [found[kind]] if kind in found else []

    def _family(self) -> list[psutil.Process]:
        """`up` and all that it has started."""
        state = supervisor.read_state(self.settings)
        found: dict[int, psutil.Process] = {}
        for child in [state.supervisor, *state.children] if state else []:
            if process := child.process:
                found |= {member.pid: member for member in process_tree(process)}
        return list(found.values())

    def _wait_for(self, what: Callable[[], bool], seconds: float = ROUND_SECONDS) -> bool:
        deadline = time.monotonic() + seconds
        while not (done := what()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return done

    def play(self, chance: random.Random, kind: str) -> None:
        """One round: events over HTTP and a file, a kill of this kind among them."""
        self.weather.share, self.weather.faults = chance.choice(WEATHER), MIXED
        sender = Sender(self.events, chance, self._url)
        sender.start()
        keys = self.events.draw(chance)
        lines = [json.dumps(event(key, self.events.sent[key])) for key in keys]
        self.calm.objects.put(f"incoming/{STREAM}/{chance.getrandbits(32):08x}.ndjson", "\n".join(lines).encode())
        self.events.acknowledged.update(keys)
        begun, at = time.monotonic(), chance.uniform(0.0, ROUND_SECONDS)
        time.sleep(at)
        self.kill(kind)
        time.sleep(max(0.0, begun + ROUND_SECONDS - time.monotonic()))
        sender.join(PATIENCE)
        if sender.is_alive() or sender.problem:
            raise AssertionError(sender.problem or "the HTTP server gives no answer")

    def _url(self) -> str | None:
        found = http.running(self.settings)
        return found.url if found else None

    def settle(self) -> Count:
        """Wait with a good network until all is computed and every program runs; what is wrong then."""
        self.weather.share = 0.0
        with suppress(LakehouseError):  # what is left over is the sensors'
            raise_on_failure(Runner(self.calm).land(self.stream, days()))
        deadline = time.monotonic() + SETTLING_SECONDS
        while True:
            found = count(self.calm, self.stream, self.events)
            found.wrong += self._missing()
            if found.passed or time.monotonic() > deadline:
                return found
            time.sleep(LOOK_SECONDS)

    def _missing(self) -> list[str]:
        state = supervisor.read_state(self.settings)
        return [f"{one.name} does not run" for one in (state.children if state else []) if one.process is None]


@contextmanager
def whole_lake(seed: int) -> Iterator[Whole]:
    """A whole lakehouse in a temporary folder, up, with a good network."""
    with faulty_storage(seed) as place, ExitStack() as stack:
        whole = Whole(place)
        stack.callback(whole.calm.engine.close)
        stack.callback(supervisor.stop, whole.settings)
        whole.up()
        yield whole


def measure(rounds: int, seed: int) -> Iterator[Figure]:
    """The figures after so many rounds. Raises AssertionError naming the rounds' seeds for the first count that is wrong."""
    started, counted = time.monotonic(), 0.0
    with whole_lake(seed) as whole:
        for first in range(0, rounds, BETWEEN_COUNTS):
            some = range(seed + first, seed + min(first + BETWEEN_COUNTS, rounds))
            for one in some:
                whole.play(random.Random(one), KINDS[one % len(KINDS)])  # noqa: S311
                if sys.stderr.isatty():
                    print(f"round {one - seed + 1} of {rounds}, {dict(whole.killed)}", file=sys.stderr)
            begun = time.monotonic()
            found = whole.settle()
            counted = max(counted, time.monotonic() - begun)
            if not found.passed:
                raise AssertionError(f"rounds of seeds {some.start} to {some.stop - 1}: {found}")
        whole.down()
        met = whole.weather.met
        yield figure(
            "faults", "rounds of a whole `up`", rounds, "", seed=seed, seconds=round(time.monotonic() - started)
        )
        yield figure("faults", "kills", whole.killed.total(), "", **whole.killed)
        yield figure("faults", "requests that met a fault", met.total() - met["none"], "", **met)
        yield figure("faults", "events acknowledged", len(whole.events.acknowledged), "", sent_again=whole.events.again)
        yield figure("faults", "longest until all was computed", counted, "s")
        yield figure("faults", "lost", 0, "", 0)
        yield figure("faults", "twice", 0, "", 0)
