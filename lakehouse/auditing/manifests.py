"""Metadata is there: the metadata file, the manifest list and the manifests of each table can be read."""

from lakehouse.auditing.context import Context

CHECK = "metadata is there"


def check(context: Context) -> None:
    """Report each metadata file that can't be read, and mark its table as damaged for the other checks."""
    for name, reason in context.unloaded.items():
        _report(context, name, reason)
    for name, table in context.tables.items():
        for file in context.reads.unreadable_metadata(table):
            context.damaged.add(name)
            _report(context, name, str(file))


def _report(context: Context, name: str, what: str) -> None:
    fix = f"bring the file back from a backup, or `lakehouse audit {context.stream.name} --repair`"
    context.report_finding(name.partition(".")[0], context.first, CHECK, f"{name}: {what}", fix)
