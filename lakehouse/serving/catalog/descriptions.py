"""Describe the tables and views that each stream has, and the columns that the lakehouse adds to them."""

from collections.abc import Mapping

from lakehouse.contracts.streams import Stream
from lakehouse.models.model import Model
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.view_names import HEALTH_VIEW, LIVE_METRICS, live_daily

SHARED: Mapping[str, str] = {
    DAILY_METRICS: "The daily numbers of all streams, a row for each number.",
    LIVE_METRICS: "The daily numbers of all streams, with the days that gold does not hold yet.",
    HEALTH_VIEW: "Freshness and quality of each stream by day.",
}
"""The tables and views that all streams share."""

COLUMNS: Mapping[str, str] = {
    "dt": "The day of the event, UTC.",
    "arrival_dt": "The day on which the landing object arrived, UTC.",
    "arrival_hour": "The hour in which the landing object arrived, UTC.",
    "_object": "The landing object that the row came from.",
    "_row": "The row's number in its landing object.",
    "_arrived_at": "When the landing object arrived, UTC.",
    "_raw": "The text of the row as it arrived.",
    "_file": "The name of the file that the row came from.",
    "_defect": "Why the row could not be read.",
    "raw": "The text of the row as it arrived.",
    "reasons": "Why the row was rejected.",
}
"""The columns that layers add, by name."""

METRIC_COLUMNS: Mapping[str, str] = {
    "date_key": "The day of the number, UTC.",
    "stream": "The stream of the number.",
    "metric_name": "The column of the stream's gold table.",
    "metric_value": "The number.",
    "dimensions": "The other columns of the row of gold, by name.",
}

ALERT_COLUMNS: Mapping[str, str] = {
    "alert": "The kind of alert.",
    "severity": "info, warning or critical.",
    "entity": "What the alert is about.",
    "event_time": "When it happened, UTC.",
    "value": "The value that raised it.",
    "threshold": "The value from which it is raised.",
    "message": "The alert in words.",
    "event_key": "The key of the event that raised it.",
}

ANOMALY_COLUMNS = {
    "event_time": "When it began, UTC.",
    "kind": "spike, dip, shift_up, shift_down, spread, pattern, quiet, stuck or silence.",
    "value": "The value measured.",
    "expected": "The value that was expected.",
    "low": "The lower end of the band of normal values.",
    "high": "The upper end of the band.",
    "score": "How rare it is, as a multiple of what is needed for an anomaly.",
    "contribution": "What share each kind has in it, as JSON.",
    "entity": "The series.",
    "severity": "warning, or critical from a score of 2.",
    "threshold": "The end of the band that the value is beyond.",
    "message": "The anomaly in words.",
    "event_key": "The key of the event that it began with.",
}


def live_view(model: Model) -> str:
    """Describe the live view of a model."""
    return f"{model.name} with the days that it does not hold yet. {model.header.description}".strip()


def stream_tables(stream: Stream) -> dict[str, str]:
    """Describe each table and view of a stream, by name."""
    name, about = stream.name, stream.contract.description
    described = {
        f"bronze.{name}": "Every row as it arrived, as text.",
        f"realtime.{name}": "Valid rows of the last days, some minutes after they arrived.",
        f"silver.{name}": "Valid rows in their types, each event once.",
        f"quarantine.{name}": "Rejected rows with their reasons.",
        f"gold.{name}_daily": "The numbers of each day.",
        f"serving.{name}_features": "Features of each entity by day.",
        f"serving.{name}_alerts": "Alerts by day.",
        f"serving.unified_{name}": "Silver with the rows that have arrived since, within a second.",
        live_daily(name): "Gold with the days that it does not hold yet.",
    }
    if stream.contract.anomaly:
        described[f"serving.{name}_anomalies"] = "Anomalies by day."
        described[f"serving.{name}_anomaly_state"] = "What the detectors of anomalies remember after each day."
    if stream.contract.changes:
        described[f"serving.{name}_current"] = "The latest state of each entity."
    return {table: f"{text} {about}".strip() for table, text in described.items()}
