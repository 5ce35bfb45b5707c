// What applies to whom.

import { el, id, mark, panel, show, table } from "/static/dom.js";
import { count } from "/static/words.js";

const ROWS = 60;
const ACTIONS = { ALLOW: "ok", DENY: "bad", AUDIT: "plain", CUSTOM: "warn" };

export const policies = {
  title: "Policies",
  lead: "The rules in force at each inbound listener, as its sidecar runs them. `meshtls policy explain` asks them about a request.",
  draw(place, record, page) {
    const text = (page.state.text || "").toLowerCase();
    const wanted = record.workloads.filter((one) => JSON.stringify(one).toLowerCase().includes(text));
    show(place,
      el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
        el("label", {}, "Find a workload, a policy or an ID", el("input", { key: "text", type: "search", value: page.state.text || "",
          oninput: (event) => { page.state.text = event.target.value; page.redraw(); } }))),
      el("p", { class: "soft" }, `${count(wanted.length)} workloads${wanted.length > ROWS ? `, the first ${ROWS} are shown` : ""}`),
      wanted.slice(0, ROWS).map((one) => panel(one.process, workload(one))),
      panel("Dry runs", table("What policies in dry run would have said of what ended", [
        ["in their words", (one) => one.text],
        ["times", (one) => count(one.count), "number"],
        ["newest", (one) => el("button", { class: "link id", type: "button", key: `dry ${one.text}`,
          onclick: () => page.go("connections", { id: one.connection_id }) }, one.connection_id || "")],
      ], record.dry_runs, "no policy in dry run has judged anything")),
      record.entries.length ? panel("Registration entries", table("Which workload gets which identity, as the agents know", [
        ["identity", (one) => id(one.spiffe_id)],
        ["selectors", (one) => id((one.selectors || []).join(", "))],
        ["agent", (one) => one.process],
        ["last error", (one) => one.last_error || "\u2013"],
      ], record.entries.slice(0, 200))) : null);
    const input = place.querySelector("input");
    if (document.activeElement === input) input.setSelectionRange(input.value.length, input.value.length);
  },
};

function workload(one) {
  return [
    el("p", {}, id(one.spiffe_id), " ", one.stale && mark("warn", "does not answer: this is old")),
    one.not_taken && el("p", { class: "problem" }, `Its newest configuration was not taken: ${one.not_taken}`),
    one.listeners.length ? one.listeners.map((listener) => [
      el("p", {}, `${listener.listen} to the app at ${listener.app}, mode `, mark(listener.mode === "STRICT" ? "ok" : "warn", listener.mode)),
      listener.allow ? table(`Allowed at ${listener.listen}`, [["SPIFFE ID", (who) => id(who)]], listener.allow, "nobody")
        : table(`Rules at ${listener.listen}`, [
          ["policy", (rule) => rule.policy],
          ["rule", (rule) => rule.rule],
          ["action", (rule) => mark(ACTIONS[rule.action] || "plain", rule.provider ? `${rule.action} by ${rule.provider}` : rule.action)],
          ["dry run", (rule) => (rule.dry_run ? mark("warn", "changes nothing") : "no")],
          ["where", (rule) => id(`${rule.file}:${rule.line}`)],
        ], listener.rules, "none")]) : el("p", { class: "soft" }, "It has no inbound listener."),
  ];
}
