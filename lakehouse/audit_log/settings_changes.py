"""Log how the settings differ from those of the last `lakehouse up`."""

import hashlib
import json
import secrets
from typing import Any

from lakehouse.audit_log.entries import Event
from lakehouse.audit_log.log import AuditLog, command_line_user, log_folder
from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.home import private_home
from lakehouse.settings import Settings


def log_settings(settings: Settings) -> None:
    """Log which settings have changed, with their values. Of a secret the log says only that it changed."""
    private_home(settings)
    path = log_folder(settings) / "settings.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        before: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        before = {"salt": secrets.token_hex(16), "values": {}}
    values = {name: _value(settings, name, before["salt"]) for name in type(settings).model_fields}
    old = before["values"]
    changed = {name: [old.get(name), value] for name, value in values.items() if old.get(name) != value}
    if changed:
        shown = {name: "changed" if _is_hidden(settings, name) else change for name, change in changed.items()}
        AuditLog(settings).write(Event(command_line_user(), "settings", "", shown))
        write_private(path, json.dumps({"salt": before["salt"], "values": values}))


def _value(settings: Settings, name: str, salt: str) -> Any:
    """Return a setting as JSON; of a secret, a salted hash by which a change shows."""
    value = getattr(settings, name)
    if not _is_hidden(settings, name):
        return json.loads(settings.model_dump_json(include={name}))[name]
    text = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    return None if text is None else hashlib.sha256(f"{salt}{text}".encode()).hexdigest()


def _is_hidden(settings: Settings, name: str) -> bool:
    value = getattr(settings, name)
    return (
        name == "webhook_url"
        or hasattr(value, "get_secret_value")
        or "SecretStr" in str(type(settings).model_fields[name].annotation)
    )
