// Asking the server: with the key where one is needed, and its problem details as errors.

const KEY = "lakehouse-key";

/** What the server refused, or why it could not be asked; the message says what to do. */
export class Problem extends Error {
  constructor(status, details) {
    super(details.detail ?? details.title ?? "The server gave no reason.");
    this.status = status;
    this.details = details;
  }
}

const needed = new Set();

/** Call this back, with the problem, whenever the server asks for a key. */
export const onKeyNeeded = (callback) => needed.add(callback);

export const key = () => sessionStorage.getItem(KEY);

export function useKey(text) {
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
}

/** fetch with the key; throws Problem for whatever is not 2xx. */
export async function ask(path, { headers = {}, ...options } = {}) {
  const mine = key() ? { authorization: `Bearer ${key()}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...mine, ...headers }, cache: "no-store" });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Problem(0, { detail: "The lakehouse does not answer. `lakehouse status` says whether it runs." });
  }
  if (answer.ok) return answer;
  const problem = new Problem(answer.status, await answer.json().catch(() => ({ title: answer.statusText })));
  if (answer.status === 401 || (answer.status === 403 && key())) for (const callback of needed) callback(problem);
  throw problem;
}

/** The answer's JSON. `parameters` that are empty are left out. */
export async function get(path, parameters = {}, options = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  const answer = await ask(query ? `${path}?${query}` : path, options);
  return answer.json();
}
