"""The asset graph: each layer's function as Dagster assets with their partitions, checks and metadata."""

import warnings

import dagster as dg

# Back-fill policies and partition mappings with offsets are marked beta; the minor version of Dagster is pinned for it.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
