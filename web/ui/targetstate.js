// What is a problem on the targets page, and what a filter finds. Pure
// functions, no DOM.

/** agentProblem says whether somebody should look at an agent. */
export function agentProblem(a) {
  return Boolean(a.silent || Math.abs(a.skew_ns ?? 0) > 5e9 || a.spool?.dropped || a.spool?.refused || a.spool?.last_error);
}

/** targetProblem says whether somebody should look at a target; one skipped on purpose is none. */
export function targetProblem(t) {
  return t.state === "down" || (t.scrapes ?? []).some((s) => s.error);
}

/** matchesFilter finds every word in what is known of a target and its agent. */
export function matchesFilter(t, a, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const hay = [
    t.service, t.instance, t.release, t.build, t.state, t.reason, t.source, t.url, a.host, a.id, a.version, a.silent ? "silent" : "",
    ...Object.entries(t.labels ?? {}).map(([k, v]) => `${k}=${v}`),
    ...(t.scrapes ?? []).flatMap((s) => [s.kind, s.error]),
  ].filter(Boolean).join(" ").toLowerCase();
  return words.every((w) => hay.includes(w));
}
