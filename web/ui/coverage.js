// What an answer covers, in plain words.

import { el, icon } from "./dom.js";
import { format, percent, plural, span } from "./units.js";
import { isInstant, typePhrase } from "./types.js";

/**
 * facts are the parts of the coverage line. Flags are what people should know
 * before they trust the numbers.
 * @param {{total: number, unit: string, type: string, agg?: string, coverage: import("./api.js").Coverage}} answer
 * @returns {{total: string, facts: string[], flags: {text: string, why: string, bad?: boolean, link?: string}[]}}
 */
export function facts(answer) {
  const c = answer.coverage;
  const out = [plural(c.profiles, "profile") + " of " + plural(c.processes, "process", "processes"), plural(c.samples, "sample")];
  const window = (Date.parse(c.until) - Date.parse(c.from)) / 1000;
  if (!isInstant(answer.type) && c.present_process_seconds > 0) {
    out.push(`observed ${span(c.observed_process_seconds)} of ${span(c.present_process_seconds)} process time (${percent(c.observed_process_seconds, c.present_process_seconds)})`);
  } else if (c.present_process_seconds > 0) {
    out.push(`${span(c.present_process_seconds)} of process time in a window of ${span(window)}`);
  }
  out.push(c.resolution === "raw" ? "raw profiles" : "rolled up by " + c.resolution);
  return { total: `${format(answer.total, answer.unit)} ${typePhrase(answer.type)}${aggText(answer)}`, facts: out, flags: flags(answer) };
}

function aggText(answer) {
  switch (answer.agg) {
    case "avg": return " on average";
    case "max": return ", largest of each process";
    case "last": return ", last of each process";
    case "sum": return isInstant(answer.type) ? ", plain sum of all profiles" : "";
  }
  return "";
}

function flags(answer) {
  const c = answer.coverage;
  const out = [];
  if (c.incomplete) out.push({ text: "incomplete", why: "The collector is still reading its log after a restart. The newest profiles may be missing; load again in a moment.", bad: true });
  if (c.damaged?.length) out.push({ text: plural(c.damaged.length, "damaged block") + " left out", why: "These blocks could not be read and are not in the numbers: " + c.damaged.join(", "), bad: true });
  if (c.estimated) out.push({ text: "estimated", why: "Scaled from the time that was observed to the time the processes were there." });
  if (c.truncated_profiles) out.push({ text: plural(c.truncated_profiles, "shortened profile"), why: "These profiles had more stacks than are kept. The rest is one frame of each; totals are kept." });
  if (c.unsymbolized > 0) out.push({ text: percent(c.unsymbolized, answer.total) + " without names", why: "Frames known only by address. They get names when the executable is stored: the page of builds says which are missing.", link: "/builds" });
  if (c.pruned?.nodes > 0) out.push({ text: plural(c.pruned.nodes, "frame") + " not drawn", why: `The drawing leaves out the smallest frames: ${format(c.pruned.value, answer.unit)} (${percent(c.pruned.value, answer.total)}) of their own. The table has everything.` });
  return out;
}

/** showCoverage writes the line. @param {HTMLElement} line */
export function showCoverage(line, answer) {
  if (!answer) {
    line.replaceChildren();
    return;
  }
  const f = facts(answer);
  line.replaceChildren(
    el("span", { class: "total" }, f.total),
    ...f.facts.map((x) => el("span", {}, x)),
    ...f.flags.map(flagged),
  );
}

/** flagged is the element of a flag. */
export function flagged(flag) {
  return el(flag.link ? "a" : "span", {
    class: "flag" + (flag.bad ? " bad" : ""), href: flag.link, title: flag.why, tabindex: flag.link ? null : 0, "aria-label": flag.text + ": " + flag.why,
  }, icon("warn"), flag.text);
}

