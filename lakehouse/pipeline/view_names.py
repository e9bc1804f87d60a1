"""Names of the views that you can query beside the tables; see `unified_view` for their SQL."""

from collections.abc import Iterable

from lakehouse.models.model import Model

HEALTH_VIEW = "serving.stream_health"
"""The view of each stream's freshness and quality."""

LIVE_METRICS = "serving.live_daily_metrics"
"""The view of the daily metrics of all streams, with the days that gold does not hold yet."""


def live_daily(stream: str) -> str:
    """Return the name of a stream's live gold."""
    return f"serving.live_{stream}_daily"


def stream_view_names(stream: str) -> set[str]:
    """List every name whose rows are all of this stream."""
    layers = {f"{layer}.{stream}" for layer in ("realtime", "bronze", "silver", "quarantine")}
    below = {"gold.{}_daily", "serving.{}_features", "serving.{}_alerts", "serving.unified_{}", "serving.{}_current"}
    below |= {"serving.{}_anomalies", "serving.{}_anomaly_state"}
    return layers | {name.format(stream) for name in below} | {live_daily(stream)}


def live_model(name: str) -> str:
    """Return the name of the live view of a model of gold, `gold.sales`."""
    return f"serving.live_{name.removeprefix('gold.')}"


def models_by_view(models: Iterable[Model]) -> dict[str, Model]:
    """Return the models that have a live view, by its name: those of gold, in SQL, by day, and without a history."""
    return {
        live_model(model.name): model
        for model in models
        if model.name.startswith("gold.")
        and model.is_partitioned
        and model.function is None
        and model.header.history is None
    }
