// What the types of profiles are called and how they behave. Pure data.

/**
 * @typedef {Object} ProfileType
 * @property {string} name API name
 * @property {string} kind
 * @property {string} unit
 */

const kinds = {
  cpu: "CPU", heap: "Memory", goroutine: "Goroutines", mutex: "Mutex contention",
  block: "Blocking", threadcreate: "Threads", goroutineleak: "Leaked goroutines", other: "Other",
};

const names = {
  cpu: "CPU time", samples: "CPU samples",
  alloc_space: "Bytes allocated", alloc_objects: "Objects allocated",
  inuse_space: "Bytes in use", inuse_objects: "Objects in use",
  goroutine: "Goroutines", mutex_delay: "Time waiting for mutexes", mutex_count: "Mutex contentions",
  block_delay: "Time blocked", block_count: "Blocking events",
  threadcreate: "Threads created", goroutineleak: "Leaked goroutines",
};

// What stands after an amount of the type: 4 s of CPU time.
const phrases = {
  cpu: "of CPU time", samples: "CPU samples",
  alloc_space: "allocated", alloc_objects: "objects allocated", inuse_space: "in use", inuse_objects: "objects in use",
  goroutine: "goroutines", mutex_delay: "waiting for mutexes", mutex_count: "mutex contentions",
  block_delay: "blocked", block_count: "blocking events", threadcreate: "threads", goroutineleak: "leaked goroutines",
};

// The order in which people look for them.
const order = ["cpu", "inuse_space", "inuse_objects", "alloc_space", "alloc_objects", "goroutine", "mutex_delay",
  "mutex_count", "block_delay", "block_count", "threadcreate", "goroutineleak", "samples"];

const instants = new Set(["inuse_space", "inuse_objects", "goroutine", "threadcreate", "goroutineleak"]);

/** kindTitle is the heading of a kind. */
export const kindTitle = (kind) => kinds[kind] ?? kind;

/** typeTitle is what people call a type. */
export const typeTitle = (name) => names[name] ?? name;

/** typePhrase is what stands after an amount of a type. */
export const typePhrase = (name) => phrases[name] ?? "of " + name;

/** isInstant says whether a type is a level at a moment, not an amount over time. */
export const isInstant = (name) => instants.has(name) || name.startsWith("inuse_");

/** hasRate says whether an amount per second makes sense for the type. */
export const hasRate = (name) => !isInstant(name);

/**
 * groupTypes sorts types into kinds, both in the order people expect.
 * @param {ProfileType[]} types
 * @returns {{kind: string, title: string, types: ProfileType[]}[]}
 */
export function groupTypes(types) {
  const rank = (t) => (order.indexOf(t.name) + order.length) % order.length;
  const out = [];
  for (const kind of [...Object.keys(kinds), ...types.map((t) => t.kind)]) {
    if (out.some((g) => g.kind === kind)) continue;
    const own = types.filter((t) => t.kind === kind).sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
    if (own.length) out.push({ kind, title: kindTitle(kind), types: own });
  }
  return out;
}
