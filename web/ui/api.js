// Calls of the collector's JSON API.

/**
 * @typedef {Object} Coverage
 * @property {number} profiles
 * @property {number} processes
 * @property {number} samples
 * @property {string} from  RFC 3339
 * @property {string} until RFC 3339
 * @property {string} resolution
 * @property {number} observed_process_seconds
 * @property {number} present_process_seconds
 * @property {{nodes: number, value: number}} pruned
 * @property {number} unsymbolized in the answer's unit
 * @property {boolean} [estimated]
 * @property {boolean} [incomplete]
 * @property {number} [truncated_profiles]
 * @property {string[]} [damaged]
 */

/** ApiError is an answer that is not a success, or none at all (status 0). */
class ApiError extends Error {
  /** @param {number} status @param {string} kind @param {string} message */
  constructor(status, kind, message) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

/**
 * url writes a path with its parameters, leaving out empty ones.
 * @param {string} path @param {Record<string, string|number|boolean|undefined|null>} params
 */
export function url(path, params = {}) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) {
    if (v !== undefined && v !== null && v !== "" && v !== false) q.set(k, String(v));
  }
  const s = q.toString();
  return s ? path + "?" + s : path;
}

/**
 * get fetches JSON. An answer 401 leads to the login page and back.
 * @param {string} path @param {Record<string, any>} params @param {AbortSignal} [signal]
 */
export function get(path, params, signal) {
  return call(url("/api/v1" + path, params), { signal, headers: { Accept: "application/json" } });
}

/** post sends JSON and fetches JSON. @param {string} path @param {any} body @param {AbortSignal} [signal] */
export function post(path, body, signal) {
  return call("/api/v1" + path, {
    method: "POST",
    signal,
    headers: { Accept: "application/json", "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

/** @param {string} target @param {RequestInit} init */
async function call(target, init) {
  let res;
  try {
    res = await fetch(target, { credentials: "same-origin", ...init });
  } catch (err) {
    if (err.name === "AbortError") throw err;
    throw new ApiError(0, "unreachable", "The collector cannot be reached. It may be restarting, or the network between is down.");
  }
  if (res.ok) return res.json();
  if (res.status === 401) {
    location.assign("/login?next=" + encodeURIComponent(location.pathname + location.search));
  }
  let kind = "internal";
  let message = `The collector answered ${res.status} ${res.statusText}`.trim() + ".";
  try {
    const { error } = await res.json();
    kind = error.kind || kind;
    message = error.message || message;
  } catch {
    // Not the API's own answer (a proxy's, say): the status has to do.
  }
  throw new ApiError(res.status, kind, message);
}

/** aborted says whether an error only means that nobody waits any more. */
export const aborted = (err) => err?.name === "AbortError";
