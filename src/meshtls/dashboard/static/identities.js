// Each SVID: its life, its path to a root, and its rotations.

import { el, facts, id, mark, show, table } from "/static/dom.js";
import { count, duration, time } from "/static/words.js";

const ROWS = 60;

export const identities = {
  title: "Identities",
  lead: "The SVID that each process holds: how much of its life is over, the chain up to a root of the bundle, and its rotations while this dashboard ran.",
  draw(place, record, page) {
    const text = (page.state.text || "").toLowerCase();
    const wanted = record.identities.filter((one) => `${one.spiffe_id} ${one.process} ${one.serial}`.toLowerCase().includes(text));
    show(place,
      record.missing.map((one) => el("p", { class: "problem" }, mark("bad", "no SVID"), ` ${one.process} (${one.spiffe_id}): ${one.why}`)),
      el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
        el("label", {}, "Find an ID, a process or a serial", el("input", { key: "text", type: "search", value: page.state.text || "",
          oninput: (event) => { page.state.text = event.target.value; page.redraw(); } }))),
      el("p", { class: "soft" }, `${count(wanted.length)} identities${wanted.length > ROWS ? `, the first ${ROWS} are shown` : ""}`),
      el("ul", { class: "list" }, wanted.slice(0, ROWS).map(card)));
    const input = place.querySelector("input");
    if (document.activeElement === input) input.setSelectionRange(input.value.length, input.value.length);
    identities.tick(place);
  },
  tick(place) {
    for (const bar of place.querySelectorAll("progress[data-from]")) {
      const [from, to, next] = [bar.dataset.from, bar.dataset.to, bar.dataset.next].map((one) => Date.parse(one));
      const now = Date.now();
      const part = Math.min(1, Math.max(0, (now - from) / (to - from)));
      bar.value = Math.round(part * 1000);
      bar.className = now >= to ? "over" : now > from + (to - from) * (2 / 3) ? "late" : "";
      const left = now >= to ? "expired" : `${duration((to - now) / 1000)} left`;
      bar.setAttribute("aria-valuetext", `${Math.round(part * 100)} % of its life is over, ${left}`);
      bar.nextElementSibling.textContent = `${Math.round(part * 100)} % over, ${left}; next rotation `
        + (next > now ? `in ${bar.dataset.about}${duration((next - now) / 1000)}` : "is due");
    }
  },
};

function card(one) {
  const key = `${one.process} ${one.role} ${one.spiffe_id} ${one.hint || ""}`;
  return el("li", {},
    el("h3", { class: "id" }, one.spiffe_id),
    el("progress", { max: 1000, value: 0, "aria-label": `Life of the SVID of ${one.spiffe_id}`, "data-from": one.not_before, "data-to": one.not_after,
      "data-next": one.next_rotation, "data-about": one.next_rotation_estimated ? "about " : "" }),
    el("p", { class: "soft" }, ""),
    facts([
      ["held by", [`${one.process} (${one.role}) `, one.stale && mark("warn", "does not answer: this is old")]],
      ["serial", id(one.serial)],
      ["valid", `${time(one.not_before)} to ${time(one.not_after)}`],
      ["rotations seen", count(one.history.length)],
    ]),
    el("details", { key: `path ${key}` }, el("summary", {}, "Path to the root"),
      el("ol", { class: "path" }, one.path.map((step) => el("li", {},
        el("strong", {}, step.role), ` ${step.subject || "(no subject: its name is the SPIFFE ID)"}, until ${time(step.not_after)}`,
        el("br"), el("span", { class: "soft" }, "SHA-256 "), id(step.sha256)))),
      one.path.length && one.path[one.path.length - 1].role !== "root" ? mark("bad", "no root of the bundle is its issuer") : null),
    el("details", { key: `history ${key}` }, el("summary", {}, "Rotation history"),
      table("SVIDs before this one", [
        ["serial", (past) => id(past.serial)],
        ["valid", (past) => `${time(past.not_before)} to ${time(past.not_after)}`],
        ["replaced", (past) => time(past.replaced)],
      ], one.history, "none while this dashboard ran")));
}
