// Authorities, federation, and the head of the transparency log.

import { el, facts, id, mark, panel, show, table } from "/static/dom.js";
import { count, time } from "/static/words.js";

const STATES = { ACTIVE: "ok", PREPARED: "plain", OLD: "warn", TAINTED: "bad", REVOKED: "bad" };

export const trust = {
  title: "Trust",
  lead: "Whom the mesh trusts: the roots of each trust domain and whether all processes hold the same, and what the server says of its authorities.",
  draw(place, record) {
    show(place, server(record.server), record.trust_domains.map((one) => panel(`Trust domain ${one.trust_domain}`,
      el("p", {}, one.agreed ? mark("ok", `all ${count(one.processes)} processes hold the same authorities`)
        : mark("warn", "processes hold different authorities: a bundle is on its way, or was not taken")),
      table("Authorities", [
        ["subject", (root) => root.subject],
        ["serial", (root) => id(root.serial)],
        ["until", (root) => time(root.not_after)],
        ["held by", (root) => `${count(root.held_by)} of ${count(one.processes)}`, "number"],
        ["SHA-256", (root) => id(root.sha256)],
      ], one.authorities, "none"))),
    record.tainted.length ? panel("Tainted", el("p", {}, record.tainted.join(", "))) : null,
    record.federates_with.length ? panel("Followed by the server", el("ul", {}, record.federates_with.map((one) => el("li", {}, one)))) : null);
  },
};

function server(found) {
  if (!found) {
    return panel("Server", el("p", { class: "soft" }, "The server's API is not asked: name its admin socket with --server-socket to see the states of its authorities, federation and the head of its log."));
  }
  if (found.error) return panel("Server", el("p", { class: "problem" }, found.error));
  return [
    panel("Authorities", found.authorities.filter((one) => one.trouble).map((one) => el("p", { class: "problem" }, `${one.trouble}: revoke it as soon as nothing hangs on it`)), table("What signs, and what hangs on it", [
      ["authority", (one) => id(one.id)],
      ["kind", (one) => one.kind],
      ["state", (one) => mark(STATES[one.state] || "plain", one.state)],
      ["since", (one) => time(one.changed_at)],
      ["leaves", (one) => time(one.leaves_at)],
      ["SVIDs in use", (one) => count(one.svids_in_use), "number"],
      ["agents to confirm", (one) => count(one.waiting_for), "number"],
      ["server", (one) => one.server_id],
    ], found.authorities)),
    panel("Federation", table("Trust domains whose bundles the server fetches", [
      ["trust domain", (one) => id(one.trust_domain)],
      ["from", (one) => id(one.url)],
      ["state", (one) => (one.failure ? mark("bad", one.failure) : mark("ok", "fetched"))],
      ["fetched", (one) => time(one.fetched_at)],
      ["next", (one) => time(one.next_at)],
    ], found.relations, "none")),
    panel("Transparency log", found.log ? facts([["origin", found.log.origin], ["leaves", count(found.log.size)], ["root hash", id(found.log.root)]])
      : el("p", { class: "problem" }, found.log_error)),
  ];
}
