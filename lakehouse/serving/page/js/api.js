// HTTP requests to the API: they send the API key if there is one, and throw problem details as errors.

const KEY_ITEM = "lakehouse-key";

/** An error response, or a request that could not be sent. The message says what to do. */
export class Problem extends Error {
  constructor(status, details) {
    super(details.detail ?? details.title ?? "The server gave no reason.");
    this.status = status;
    this.details = details;
  }
}

const keyListeners = new Set();

/** Call `callback(problem)` whenever the server asks for an API key. */
export const onKeyNeeded = (callback) => keyListeners.add(callback);

export const key = () => sessionStorage.getItem(KEY_ITEM);

export function setKey(text) {
  if (text) sessionStorage.setItem(KEY_ITEM, text);
  else sessionStorage.removeItem(KEY_ITEM);
}

/** `fetch` with the API key. Throws Problem unless the status is 2xx. */
export async function request(path, { headers = {}, ...options } = {}) {
  const authorization = key() ? { authorization: `Bearer ${key()}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...authorization, ...headers }, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The lakehouse does not respond. Check whether it is running with: lakehouse status" });
  }
  if (response.ok) return response;
  const problem = new Problem(response.status, await response.json().catch(() => ({ title: response.statusText })));
  const needsKey = response.status === 401 || (response.status === 403 && key());
  if (needsKey) for (const callback of keyListeners) callback(problem);
  throw problem;
}

/** GET a path and parse its JSON. Empty `parameters` are left out. */
export async function getJson(path, parameters = {}, options = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  const response = await request(query ? `${path}?${query}` : path, options);
  return response.json();
}
