"""Tell other programs of runs, by the events of OpenLineage, https://openlineage.io/docs/spec/object-model."""
