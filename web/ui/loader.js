// Requests of a page: one per part of it, the newest wins.

import { aborted } from "./api.js";

/**
 * Loader runs the page's requests. A part is asked for again only when its
 * key changed; the request before it is then given up.
 */
export class Loader {
  /** @param {(busy: boolean) => void} busy */
  constructor(busy) {
    this.busy = busy;
    /** @type {Map<string, {key: string, stop: AbortController, done: boolean}>} */
    this.parts = new Map();
  }

  /**
   * need makes sure a part shows what key stands for.
   * @param {string} part @param {string} key
   * @param {(signal: AbortSignal) => Promise<any>} fetch
   * @param {(answer: any) => void} show
   * @param {(err: Error) => void} fail
   */
  async need(part, key, fetch, show, fail) {
    const before = this.parts.get(part);
    if (before?.key === key) return;
    before?.stop.abort();
    const mine = { key, stop: new AbortController(), done: false };
    this.parts.set(part, mine);
    this.tell();
    try {
      const answer = await fetch(mine.stop.signal);
      if (this.parts.get(part) === mine) show(answer);
    } catch (err) {
      if (this.parts.get(part) !== mine || aborted(err)) return;
      // A failure may be asked for again by the same key.
      this.parts.delete(part);
      fail(err);
    } finally {
      mine.done = true;
      this.tell();
    }
  }

  /** forget makes the next need of every part a new request. */
  forget() {
    for (const p of this.parts.values()) p.key = "";
  }

  tell() {
    this.busy([...this.parts.values()].some((p) => !p.done));
  }
}
