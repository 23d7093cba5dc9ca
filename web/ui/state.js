// The state of the explore page, which is its URL: a link shows exactly what
// its sender saw, and back and forward work.

/**
 * @typedef {Object} State
 * @property {string} query    selector
 * @property {string} type     type name; "" until one is chosen
 * @property {string} from     relative (-1h) or absolute time, as the API takes it
 * @property {string} until
 * @property {string} agg      "" the default of the type
 * @property {string} rate     "1" per second
 * @property {string} by       label the timeline's lines are for
 * @property {string} top      what the table's rows are
 * @property {string} sort     see table.js
 * @property {string} view     table, both, graph
 * @property {string} search
 * @property {string} root     top (icicle) or bottom (flame)
 * @property {string} mark     function outlined in the graph
 * @property {string} zoom     path key of the frame at full width, see flametree.js
 * @property {string} sandwich function
 * @property {string} focus    function
 * @property {string} source   function whose lines and instructions are shown
 * @property {string} build    in which build; "" where it costs most
 * @property {string} at       line (file:line) or instruction (0x…) chosen in them
 * @property {string[]} hide   functions
 * @property {string} auto     seconds between loads
 * @property {string} nodes    most frames asked for
 */

/** @type {State} */
export const defaults = {
  query: "", type: "", from: "-1h", until: "now", agg: "", rate: "", by: "", top: "function", sort: "self", view: "both",
  search: "", root: "top", mark: "", zoom: "", sandwich: "", focus: "", source: "", build: "", at: "", hide: [], auto: "", nodes: "",
};

/** read gives the state a query string stands for. @param {string} search @returns {State} */
export function read(search) {
  const q = new URLSearchParams(search);
  const s = { ...defaults };
  for (const k of Object.keys(defaults)) {
    if (!q.has(k)) continue;
    s[k] = k === "hide" ? q.getAll(k) : q.get(k);
  }
  return s;
}

/** write gives the query string of a state, without what is by default. @param {State} s */
export function write(s) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(s)) {
    if (Array.isArray(v)) v.forEach((x) => q.append(k, x));
    else if (v !== defaults[k]) q.set(k, v);
  }
  const text = q.toString();
  return text ? "?" + text : "";
}

/** Store holds the state and tells of its changes. */
export class Store {
  /** @param {(now: State, before: State|null) => void} changed */
  constructor(changed) {
    this.changed = changed;
    this.state = read(location.search);
    addEventListener("popstate", () => {
      const before = this.state;
      this.state = read(location.search);
      this.changed(this.state, before);
    });
  }

  /**
   * set changes some of the state.
   * @param {Partial<State>} patch
   * @param {boolean} [quiet] replace the entry in the history: not a step to go back over
   */
  set(patch, quiet = false) {
    const before = this.state;
    const now = { ...before, ...patch };
    const url = location.pathname + write(now);
    if (url === location.pathname + location.search) return;
    this.state = now;
    if (quiet) history.replaceState(null, "", url);
    else history.pushState(null, "", url);
    this.changed(now, before);
  }
}
