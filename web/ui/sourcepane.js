// The source of a function beside its instructions, with what each costs.

import { byId, el } from "./dom.js";
import { facts, flagged } from "./coverage.js";
import { Listing } from "./listing.js";
import { nameOf } from "./names.js";
import { fill, sentence } from "./notice.js";
import { codeRows, dearest, lineRows, related } from "./sourcelines.js";
import { format, percent, plural } from "./units.js";

const shortBuild = 12; // characters of a build id that tell it from others
const noBuild = "(no build)"; // as the API calls it

/** commandLine is a command to copy from the page. */
const commandLine = (text) => el("code", { class: "command-line" }, text);

export class SourcePane {
  /**
   * @param {import("./state.js").Store} store
   * @param {(name: string) => boolean} known whether a function costs anything in what is selected
   */
  constructor(store, known) {
    this.store = store;
    this.answer = null;
    this.shown = ""; // function and build in the listings
    this.lineRows = [];
    this.codeRows = [];
    const events = {
      pick: (r) => store.set({ at: r.key }, true),
      follow: (name) => store.set({ source: name, build: this.answer?.build ?? "", at: "" }),
      known,
    };
    this.lines = new Listing(byId("lines"), events);
    this.code = new Listing(byId("code"), events);
    byId("build").addEventListener("change", (e) => store.set({ build: e.target.value, at: "" }));
    byId("source-close").addEventListener("click", () => this.close());
    byId("source-sandwich").addEventListener("click", () => this.sandwich());
  }

  /** close goes back to table and graph. */
  close() {
    this.store.set({ source: "", build: "", at: "" });
    byId("open-source").focus();
  }

  sandwich() {
    const s = this.store.state;
    this.store.set({ sandwich: s.source, source: "", build: "", at: "", zoom: "", view: s.view === "table" ? "both" : s.view });
  }

  /** update opens, closes, and marks what a state chooses; the answer comes by show or fail. */
  update(state, before) {
    const open = state.source !== "";
    byId("source").hidden = !open;
    byId("work").classList.toggle("sourced", open);
    byId("open-source").setAttribute("aria-pressed", String(open));
    if (!open) return;
    const title = byId("source-title");
    title.textContent = nameOf(state.source).short;
    title.title = state.source;
    if (state.source !== before?.source || state.build !== before?.build) {
      // What is shown is of another function: nothing is better than that.
      if (this.answer?.function !== state.source) this.clear();
      if (before && !before.source) title.focus({ preventScroll: true });
    } else if (state.at !== before?.at) {
      this.mark(state.at, true);
    }
  }

  clear() {
    this.answer = null;
    this.shown = "";
    byId("source-sum").textContent = "";
    byId("source-coverage").replaceChildren();
    byId("source-notes").replaceChildren();
    byId("build-field").hidden = true;
    byId("listings").hidden = true;
    byId("source-notice").hidden = true;
  }

  /** show takes an answer of /api/v1/source. */
  show(answer, state) {
    this.answer = answer;
    const stay = this.shown === answer.function + "\n" + answer.build;
    this.shown = answer.function + "\n" + answer.build;
    this.lineRows = lineRows(answer);
    this.codeRows = codeRows(answer);
    byId("source-notice").hidden = true;
    byId("listings").hidden = false;
    this.head(answer);
    byId("source-notes").replaceChildren(...notes(answer, state));
    byId("lines-title").textContent = answer.files.some((f) => f.from) ? "Source" : "Source (no text here)";
    this.lines.show(this.lineRows, answer.unit, answer.cum, stay);
    this.code.show(this.codeRows, answer.unit, answer.cum, stay);
    const none = byId("code-none");
    none.hidden = this.codeRows.length > 0;
    byId("code").hidden = this.codeRows.length === 0;
    none.replaceChildren(...missingCode(answer));
    this.mark(state.at, !stay);
    if (stay || state.at) return;
    this.lines.reveal(dearest(this.lineRows));
    this.code.reveal(dearest(this.codeRows));
  }

  /** head writes what the function costs, in which build, and what that covers. */
  head(answer) {
    const sum = byId("source-sum");
    sum.replaceChildren("self ", el("b", {}, format(answer.self, answer.unit)), ` (${percent(answer.self, answer.total)}) · total `,
      el("b", {}, format(answer.cum, answer.unit)), ` (${percent(answer.cum, answer.total)})`);
    const select = byId("build");
    select.replaceChildren(...answer.builds.map((b) => el("option", { value: b.name, disabled: b.name === noBuild, title: b.name },
      (b.name === noBuild ? "profiles that name no build" : b.name.slice(0, shortBuild)) + (answer.builds.length > 1 ? ` · ${format(b.cum, answer.unit)}` : ""))));
    select.value = answer.build || noBuild;
    byId("build-field").hidden = answer.builds.length === 0;
    const f = facts(answer);
    byId("source-coverage").replaceChildren(...f.facts.map((x) => el("span", {}, x)), ...f.flags.map(flagged));
  }

  /** mark marks the rows that belong to a line or an instruction. */
  mark(key, reveal) {
    const of = related(key, this.codeRows);
    this.lines.mark(of.lines);
    this.code.mark(of.code);
    if (!key || !reveal) return;
    this.lines.revealMarked();
    this.code.revealMarked();
  }

  /** fail says why there is nothing to show. */
  fail(err, state, again) {
    this.clear();
    const buttons = [el("button", { type: "button", class: "primary", click: () => this.close() }, "Back to table and graph")];
    if (err.status !== 404 && err.status !== 400) buttons.push(el("button", { type: "button", click: again }, "Try again"));
    if (state.build) buttons.push(el("button", { type: "button", click: () => this.store.set({ build: "", at: "" }) }, "In any build"));
    fill(byId("source-notice"), err.status === 404 ? "This function costs nothing here" : "The source could not be loaded", [sentence(err.message)], buttons);
  }
}

/** notes are the sentences above the listings: how the sums are made, and what would show more. */
function notes(answer, state) {
  const out = [];
  const profiles = plural(answer.coverage.profiles, "single profile");
  if (answer.agg === "sum" && state.averaged) out.push(el("p", {}, `The graph shows an average over the window. These are plain sums over ${profiles}: compare lines with each other, not with the graph.`));
  if (state.perSecond) out.push(el("p", {}, `The graph shows amounts per second. These are plain sums over ${profiles}.`));
  if (answer.files.length && !answer.files.some((f) => f.from)) {
    out.push(el("p", {}, "There is no source text of this build, so lines are shown by number. Push it from where the program was built: ",
      commandLine("inquest push -source . ./bin"), ", or name a debuginfod server that has it under ", commandLine("debuginfod"), " in the collector's configuration."));
  }
  return out;
}

/** missingCode says why there are no instructions, and how to have them. */
function missingCode(answer) {
  if (!answer.code_missing) return [el("p", {}, "This function has no instructions of its own.")];
  const out = [el("p", {}, "No instructions: " + sentence(answer.code_missing))];
  if (answer.build && /no executable/.test(answer.code_missing)) {
    out.push(el("p", {}, "Push the binary that runs, before it is stripped if you can: ", commandLine("inquest push ./bin")));
  }
  return out;
}
