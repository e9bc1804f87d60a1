"""The GraphQL queries that Dagster 1.13 sends when you open its pages, with the fields that cost something."""

import time
from typing import Any

import httpx

RUNS = """query RunsFeedRootQuery {
  runsFeedOrError(limit: 30, view: ROOTS) {
    ... on RunsFeedConnection {
      cursor
      hasMore
      results {
        id runStatus creationTime startTime endTime jobName
        tags { key value }
        assetSelection { path }
        ... on Run { hasReExecutePermission stepKeysToExecute updateTime }
      }
    }
  }
  queued: runsFeedCountOrError(view: ROOTS, filter: {statuses: [QUEUED]}) { ... on RunsFeedCount { count } }
  running: runsFeedCountOrError(view: ROOTS, filter: {statuses: [STARTED]}) { ... on RunsFeedCount { count } }
}"""

TIMELINE = """query CompletedRunTimelineQuery {
  runsOrError(filter: {statuses: [SUCCESS, FAILURE, CANCELED], updatedAfter: %f}, limit: 500) {
    ... on Runs { results { id pipelineName status startTime endTime tags { key value } } }
  }
}"""

ASSET = """query RecentAssetEventsQuery {
  assetOrError(assetKey: {path: ["realtime", "financial"]}) {
    ... on Asset {
      assetEventHistory(limit: 100, eventTypeSelectors: [MATERIALIZATION, FAILED_TO_MATERIALIZE, OBSERVATION]) {
        results {
          ... on MaterializationEvent {
            partition runId timestamp stepKey
            metadataEntries { label ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } }
            runOrError { ... on Run { id status pipelineName } }
          }
        }
        cursor
      }
    }
  }
  assetsLatestInfo(assetKeys: [{path: ["realtime", "financial"]}]) { id latestMaterialization { timestamp runId } }
}"""

PARTITIONS = """query PartitionHealthQuery {
  assetNodeOrError(assetKey: {path: ["%s", "financial"]}) {
    ... on AssetNode {
      id
      partitionKeysByDimension { name type partitionKeys }
      assetPartitionStatuses {
        ... on TimePartitionStatuses { ranges { status startTime endTime startKey endKey } }
      }
    }
  }
}"""


def queries() -> dict[str, str]:
    """Return each page's query by the name of the page."""
    return {
        "runs page": RUNS,
        "timeline page": TIMELINE % (time.time() - 6 * 3600),
        "asset page": ASSET,
        "hourly partitions page": PARTITIONS % "realtime",
        "daily partitions page": PARTITIONS % "silver",
    }


def ask(url: str, query: str) -> tuple[float, Any]:
    """Return the seconds that a query takes, and its data. Raises AssertionError if Dagster refuses it."""
    started = time.perf_counter()
    answer = httpx.post(f"{url}/graphql", json={"query": query}, timeout=300).json()
    seconds = time.perf_counter() - started
    if "errors" in answer:
        raise AssertionError(f"the Dagster page refuses {query.split()[1]}: {answer['errors'][0]['message']}")
    return seconds, answer["data"]
