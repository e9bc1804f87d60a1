"""A message about one cause, as it waits to be sent and as receivers read it."""

from typing import Any, Literal

import msgspec

from lakehouse.alerting.schema import CauseKind, Severity

MessageState = Literal["open", "again", "resolved", "test"]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Something that needs attention. Kind and key tell one cause from another."""

    kind: CauseKind
    key: str
    """The subject, such as a stream, a process or a job."""
    severity: Severity
    summary: str
    """The fault, in one sentence."""
    action: str
    """Where to look first."""
    stream: str | None = None
    owner: str | None = None
    """The team of the stream's contract."""
    details: dict[str, Any] = {}


def failed_run(job: str, stream: str | None, /, **details: str | None) -> Cause:
    """Make the cause of a run that has failed. It lasts until a run of the same job and stream succeeds."""
    of = f" of {stream}" if stream else ""
    return Cause(
        kind="run_failure",
        key=f"{job}/{stream or ''}",
        severity="warning",
        summary=f"The last run of {job}{of} failed.",
        action="Open it in Dagster; its log has the error.",
        stream=stream,
        details=details,
    )


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one receiver."""

    id: str
    """Stays the same when the message is sent again, so that a receiver can drop the second one."""
    state: MessageState
    cause: Cause
    since: str
    """When the cause was seen first, in UTC."""
    at: str
    """When the message was made."""
    count: int = 0
    """Alerts of a stream, or failed runs, since the receiver's last message about the cause."""

    @property
    def title(self) -> str:
        """The message in one line."""
        label = {"open": self.cause.severity, "again": f"still {self.cause.severity}"}.get(self.state, self.state)
        return " ".join(f"[{label.upper()}] {self.cause.summary}".split())

    @property
    def lines(self) -> list[str]:
        """The lines below the title."""
        cause = self.cause
        facts = {
            "Since": self.since,
            "Stream": cause.stream,
            "Owner": cause.owner,
            "New": str(self.count) if self.count > (self.state == "open") else None,
            "Error": cause.details.get("error"),
            "Do": cause.action if self.state != "resolved" else None,
        }
        named = [f"{name}: {value}" for name, value in facts.items() if value]
        return [*named, *map(str, cause.details.get("newest", ()))]

    def as_json(self) -> dict[str, Any]:
        """Return the message as a webhook receives it."""
        cause = self.cause
        return {
            **cause.details,
            "text": self.title,
            "id": self.id,
            "state": self.state,
            "cause": cause.kind,
            "key": cause.key,
            "severity": cause.severity,
            "stream": cause.stream,
            "owner": cause.owner,
            "since": self.since,
            "at": self.at,
            "count": self.count,
            "action": cause.action,
        }
