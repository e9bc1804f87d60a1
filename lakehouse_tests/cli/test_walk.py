"""Every command of the documents runs, in the environment that the lines before it made.

The reader of the documents is one person: the README's lake serves all other documents, and a document's files and
variables serve its later lines.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.cli.conftest import Done
from lakehouse_tests.forked import TIMEOUT_SECONDS, run_forked
from lakehouse_tests.nightly import more_at_night

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:18480"
"""Takes the place of the documents' `127.0.0.1:8000`, where a lakehouse of the developer may be."""

DOCUMENTS = (
    *(
        "README.md",
        "docs/index.md",
        "docs/projects.md",
        "docs/ingest.md",
        "docs/sources.md",
        "docs/streams.md",
        "docs/models.md",
        "docs/query.md",
        "docs/lineage.md",
        "docs/anomalies.md",
        "docs/features.md",
    ),
    *(
        "docs/page.md",
        "docs/catalog.md",
        "docs/tools.md",
        "docs/publish.md",
        "docs/semantics.md",
        "docs/promises.md",
        "docs/operations.md",
        "docs/deploy/aws.md",
        "docs/deploy/docker.md",
        "docs/monitoring.md",
        "docs/alerts.md",
        "docs/audit-log.md",
        "docs/spark.md",
    ),
    *("docs/settings.md", "docs/benchmarks.md", "CONTRIBUTING.md"),
)
"""In the order in which a reader opens them."""

BY_NIGHT = {
    r".*lakehouse demo": "takes 20 seconds of both cores; CI runs the README's before the tests",
    r"curl http://127.0.0.1:8000/v1/entities/financial/": "asks for an account of `lakehouse demo`",
}
"""Commands that run with NIGHTLY=1 only, each with its reason."""

NOT_RUN = {
    r"python3 -m venv|.*pip install|make (install|hooks)": "installs from the network; CI does it before the tests",
    **more_at_night(BY_NIGHT, {}),
    r".*python -m pytest|make (test|lint)": "is what CI runs, this test included",
    r"lakehouse bench (load|day)": "takes minutes; bench/test_bench.py runs every benchmark with fewer rows",
    r"lakehouse bench faults": "takes minutes; chaos/test_rounds.py repeats a round",
    r"export LAKEHOUSE_PUBLISH|lakehouse publish|lakehouse audit --pub": "needs a warehouse; publishing/ starts one",
    r"lakehouse kinesis|export LAKEHOUSE_KINESIS": "needs Kinesis; sources/kinesis/test_process.py runs it on a fake",
    r"export LAKEHOUSE_DAGSTER_POSTGRES_URL": "needs PostgreSQL; runtime/test_instance.py uses one where there is one",
    r"export LAKEHOUSE_(STORAGE|BUCKET|S3|CATALOG)": "needs a cloud account; storage/test_connection.py uses a fake",
    r"export LAKEHOUSE_ENGINE|.*sail spark server": "needs a Spark server; engine/test_spark.py starts one",
    r"curl .*/v1/receipts/": "needs a receipt; serving/api/test_receipts.py asks for one",
    r"prometheus ": "runs until it is stopped; deploy/test_observability.py starts one",
    r"export LAKEHOUSE_OPENLINEAGE": "needs a receiver; automation/test_openlineage.py runs one",
    r"export LAKEHOUSE_ALERTS|lakehouse alerts test": "needs receivers; alerting/test_delivery.py runs some",
    r"ssh ": "needs another machine",
    r"docker |cp deploy/docker": "needs a Docker engine; deploy/test_docker.py starts the same processes",
    r"cd deploy/aws|terraform ": "needs an account of AWS; deploy/test_terraform.py applies it to moto",
}
"""Commands that a test can't run, as the start of their line, each with its reason."""

CHANGED = {
    r"lakehouse up$": ("lakehouse up --detach --no-ui", "it would run until it is stopped"),
    r"lakehouse demo$": ("lakehouse demo --events 500", "fewer events take less time"),
    r"lakehouse restore .* --at .*": (r"\g<0> --no-audit", "maintenance/test_backup.py audits what it restores"),
    r"bench live --seconds 6": ("bench live --seconds 0.5 --rows 2000 --rate 1000", "fewer events take less time"),
    r"--duration 5m": ("--duration 2s", "five minutes are too long"),
    r"^(lakehouse (withdraw|erase) (?!.*--dry-run).*)": (r"\1 --yes", "no person confirms it"),
    r"\$EDITOR models/(\S+)": (r"cp {folder}/written/\1 models/\1", "no person writes it"),
    r"127\.0\.0\.1:8000": (ADDRESS, "the port may be in use"),
    r"(?<=[ =\"'])/(srv|mnt)/": (r"{folder}/\1/", "only root may write there"),
    r"2026-11-28T12": ("{hour}", "the backup is made now"),
    r"9f86d081….csv": ("{loaded}", "the name follows from the file's content"),
}
"""Commands that a test changes before it runs them, each with its reason."""

INVOICES = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,HEART HOLDER,6,2010-12-01 08:26:00,2.55,17850,United Kingdom
536366,22633,HAND WARMER,4,2010-12-01 08:28:00,1.85,{customer},France
"""


SALE = "{0},2025-11-20T14:15:{0}Z,France,1.{0}\n"


class Step(NamedTuple):
    """One command of a document."""

    document: str
    command: str


def _all_steps() -> list[Step]:
    """List the commands of the documents in order, each once."""
    steps: dict[str, Step] = {}
    for document in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for command in re.sub(r"\s+#.*", "", line).split(" && "):
                    steps.setdefault(command.removeprefix(".venv/bin/"), Step(document, command))
    return list(steps.values())


def _steps() -> list[Step]:
    """List the commands that a test can run."""
    return [step for step in _all_steps() if not any(re.match(start, _named(step)) for start in NOT_RUN)]


def _named(step: Step) -> str:
    return f"{step.command} ({step.document})"


@dataclass
class Walk:
    """A clone's folder in which a reader runs one command after another."""

    folder: Path
    environment: dict[str, str]
    document: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    """The environment that the lines of the current document made, with the folder that they are in as PWD."""

    @property
    def place(self) -> Path:
        """The folder that the reader is in: each document begins in the clone's."""
        return Path(self.variables["PWD"])

    def run(self, step: Step) -> Done:
        """Run a command. Variables of the README stay; those of other documents end with them."""
        if step.document != self.document:
            if self.document == "README.md":
                self.environment = self.variables
            self.document, self.variables = step.document, dict(self.environment)
        command = self._changed(step.command)
        words = _plain_words(command)
        is_found = words[0] == ".venv/bin/lakehouse" or "VIRTUAL_ENV" in self.variables
        if is_found and words[0].endswith("lakehouse"):  # in a fork, because a new process imports for a second
            return run_forked(words[1:], self.variables, self.place)
        return self._run_in_shell(command)

    def _run_in_shell(self, command: str) -> Done:
        state = self.folder / "environment"
        script = f"{command}\nstatus=$?\nenv -0 > {shlex.quote(str(state))}\nexit $status"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.place, env=self.variables, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        lines = state.read_text().split("\0")
        self.variables = dict(line.split("=", 1) for line in lines if "=" in line)
        return done

    def _changed(self, command: str) -> str:
        for pattern, (replacement, _) in CHANGED.items():
            command = re.sub(pattern, replacement, command)
        values = {"{folder}": str(self.folder), "{hour}": f"{datetime.now(UTC):%Y-%m-%dT%H}"}
        if "{loaded}" in command:
            objects = Objects.from_connection(storage.connection(Settings(home=self.folder / ".lakehouse")))
            values["{loaded}"] = max(info.key for info in objects.list("incoming/retail")).rsplit("/", 1)[1]
        for name, value in values.items():
            command = command.replace(name, value)
        return command


def _plain_words(command: str) -> list[str]:
    """Split a command into its words; a single empty word if it needs a shell."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    needs_shell = "$" in command or any(set(word) <= set("();<>|&") for word in words)
    return [""] if needs_shell else words


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("walk")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
    (folder / "invoices.csv").write_text(INVOICES.format(customer="17850"))
    (folder / "some-folder").mkdir()
    (folder / "some-folder" / "january.csv").write_text(INVOICES.format(customer="17851"))
    model = re.search(r"^```sql\n(.*?)^```$", (ROOT / "docs/models.md").read_text(), re.MULTILINE | re.DOTALL)
    assert model is not None
    (folder / "written" / "gold").mkdir(parents=True)
    (folder / "written" / "gold" / "sales.sql").write_text(model[1])
    for name in ("srv", "mnt"):
        (folder / name).mkdir()
    for name in ("sales.csv", "trips.csv"):
        (folder / name).write_text("sale_id,sold_at,country,amount\n" + "".join(SALE.format(n) for n in range(10, 40)))
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    mine.pop("VIRTUAL_ENV", None)
    environment = mine | {
        "PATH": os.pathsep.join(path for path in os.get_exec_path() if not Path(path, "lakehouse").exists()),
        "CURL_HOME": str(folder),
        "PWD": str(folder),
        "COLUMNS": "120",
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "LAKEHOUSE_HTTP_PORT": ADDRESS.partition(":")[2],
        # Fewer processes start in less time.
        "LAKEHOUSE_WARM_RUNS": "false",
        "LAKEHOUSE_HTTP_WORKERS": "1",
        "LAKEHOUSE_QUERY_WORKERS": "1",
    }
    walk = Walk(folder, environment, variables=environment)
    yield walk
    done = subprocess.run(
        [sys.executable, "-m", "lakehouse", "down"], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout == "The lakehouse is down.\n"


@pytest.mark.skipif(
    shutil.which("curl") is None or not Path(sys.prefix, "bin", "activate").exists(), reason="needs curl and a venv"
)
@pytest.mark.parametrize("step", _steps(), ids=lambda step: f"{step.document}: {step.command}")
def test_command_of_the_documents_runs(walk: Walk, step: Step) -> None:
    done = walk.run(step)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("start", NOT_RUN)
def test_command_that_is_not_run_is_in_a_document(start: str) -> None:
    assert any(re.match(start, _named(step)) for step in _all_steps())


def test_every_document_with_commands_is_read() -> None:
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    with_commands = {str(file.relative_to(ROOT)) for file in files if "```sh\n" in file.read_text()}
    assert with_commands <= set(DOCUMENTS)
