// Run SQL for the page's own charts and samples, with the rights of the reader's key.

import { request } from "./api.js";

const MAX_ROWS = 10000;

/** Run a SELECT. Returns `columns`, `rows` as lists in their order, and `statistics`. */
export async function query(sql, options = {}) {
  const response = await request("/v1/query", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify({ sql, limits: { rows: MAX_ROWS } }),
    ...options,
  });
  const { columns, rows, statistics } = await response.json();
  return { columns, rows: rows.map((row) => columns.map((column) => row[column.name])), statistics };
}
