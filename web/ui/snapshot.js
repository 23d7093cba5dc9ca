// The dialog of the targets page that copies the memory of a target.

import { post } from "./api.js";
import { byId, el } from "./dom.js";
import { sentence } from "./notice.js";
import { format } from "./units.js";

const dialog = byId("snapshot-dialog");
let chosen = null;
let running = null;

/** openSnapshot asks what to copy of a target. @param {any} agent @param {any} target */
export function openSnapshot(agent, target) {
  chosen = { agent, target };
  byId("snapshot-what").textContent = `${target.service} at ${target.instance}, by the agent on ${agent.host || agent.id}. It is stopped while that takes.`;
  show("", "");
  dialog.showModal();
}

/** snapshotOpen says whether the dialog is open. */
export const snapshotOpen = () => dialog.open;

function show(kind, ...content) {
  const p = byId("snapshot-result");
  p.className = "dialog-result " + kind;
  p.replaceChildren(...content);
}

async function take(e) {
  e.preventDefault();
  const { agent, target } = chosen;
  const go = byId("snapshot-go");
  running = new AbortController();
  go.disabled = true;
  show("", "Copying …");
  try {
    const done = await post("/targets/snapshot", { agent: agent.id, target: target.id, tier: byId("snapshot-tier").value }, running.signal);
    show("good", `Done, it was stopped for ${format(done.stopped_ns ?? 0, "nanoseconds")}. `, done.link ? el("a", { href: done.link }, "Open it") : "");
  } catch (err) {
    if (err.name !== "AbortError") show("bad", sentence(err.message));
  } finally {
    go.disabled = false;
    running = null;
  }
}

byId("snapshot-form").addEventListener("submit", take);
byId("snapshot-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => running?.abort());
