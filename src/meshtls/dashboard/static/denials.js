// What was denied, grouped by what denied it.

import { el, facts, id, mark, show } from "/static/dom.js";
import { count, time } from "/static/words.js";

export const denials = {
  title: "Denials",
  lead: "Grouped by reason, since this dashboard started and as far back as each sidecar remembers: the clause that denied, and what would let the caller in.",
  draw(place, record, page) {
    show(place,
      el("p", { class: "soft", role: "status" }, record.denials.length ? `${count(record.total)} denials for ${count(record.denials.length)} reasons` : "Nothing was denied."),
      el("ul", { class: "list" }, record.denials.map((one) => el("li", {},
        el("h3", {}, mark("bad", one.outcome), ` ${count(one.count)} times`),
        el("p", {}, one.reason),
        facts([
          ["at", id(one.decided_by)],
          ["server", one.destination === one.decided_by ? null : id(one.destination)],
          ["callers", el("span", {}, one.sources.map((source) => el("span", {}, id(source.id), ` ${count(source.count)} times`, el("br"))),
            one.more_sources ? `and ${count(one.more_sources)} more` : null)],
          ["policy", one.policy && `${one.policy}, rule ${one.rule}`],
          ["clause", one.clause && el("code", {}, one.clause)],
          ["in its words", one.detail],
          ["what to do", one.next_step],
          ["from, to", `${time(one.first)}, ${time(one.last)}`],
          ["requests", one.requests ? count(one.requests) : null],
        ]),
        el("p", {}, el("button", { type: "button", key: `story ${one.connection_id}`,
          onclick: () => page.go("connections", { id: one.connection_id, verdict: "denied" }) }, "Explain the newest"))))));
  },
};
