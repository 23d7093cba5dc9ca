// A command for a terminal, with a button that copies it.

import { copy, el } from "./dom.js";

/** command shows a command. @param {string} text @param {string} what it does, for screen readers: "push" */
export function command(text, what) {
  return el("div", { class: "copy-line" }, el("code", { class: "command" }, text),
    el("button", { type: "button", "aria-label": `Copy the command to ${what}`, click: () => copy(text, "Command") }, "Copy"));
}

/** signed says that the collector asks for tokens, so commands need one. */
export const signed = document.documentElement.dataset.signed !== undefined;

/** pushCommand uploads binaries to this collector. */
export const pushCommand = () => `inquest push ./bin -to ${location.origin}` + (signed ? " -token-file FILE" : "");
