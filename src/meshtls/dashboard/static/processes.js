// Each process that is asked, and the few acts for whoever has the token.

import { el, id, mark, panel, show, table } from "/static/dom.js";
import { count, time } from "/static/words.js";

const LEVELS = ["DEBUG", "INFO", "WARN", "ERROR"];

export const processes = {
  title: "Processes",
  lead: "The processes that this dashboard was told of. One that does not answer is shown so; what it said before stays on the other pages, marked as old.",
  draw(place, record, page) {
    const found = record.processes;
    const failed = found.filter((one) => one.error).length;
    show(place,
      el("p", { class: "soft", role: "status" }, `${count(found.length)} processes, ${failed ? `${count(failed)} do not answer` : "all answer"}`),
      el("section", { class: "panel", "aria-label": "Processes" }, table("Processes", [
        ["name", (one) => one.name],
        ["kind", (one) => one.kind || "\u2013"],
        ["state", (one) => state(one)],
        ["identity", (one) => (one.spiffe_id ? id(one.spiffe_id) : "\u2013")],
        ["started", (one) => time(one.started)],
        ["version", (one) => one.version || "\u2013"],
        ["level of its log", (one) => one.level || "\u2013"],
        ["asked at", (one) => id(one.address)],
      ], found)),
      page.may.act ? acts(found, page) : el("p", { class: "soft" }, "This dashboard changes nothing: it was started without --token-file."));
  },
};

function state(one) {
  if (one.error) return [mark("bad", "no answer"), ` ${one.error}`];
  const parts = [one.ready ? mark("ok", one.state || "ready") : mark("warn", "not ready"), ` ${one.ready_text}`];
  if (one.untold) parts.push(el("br"), mark("warn", "events not followed"), ` ${one.untold}`);
  if (one.lost) parts.push(el("br"), mark("warn", `${count(one.lost)} events lost`));
  return parts;
}

function acts(found, page) {
  const at = page.state;
  at.process ||= found.length ? found[0].address : "";
  const run = async (act, value, asked) => {
    if (asked && !confirm(asked)) return;
    try {
      const said = await page.ask("act", {}, { method: "POST", body: JSON.stringify({ process: at.process, act, value }),
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${at.token || ""}` } });
      at.said = `done: ${said.state || `the level is ${said.level}`}`;
    } catch (error) {
      at.said = `refused: ${error.message}`;
    }
    page.refresh();
  };
  return panel("Change something",
    el("form", { class: "filters", autocomplete: "off", onsubmit: (event) => event.preventDefault() },
      el("label", {}, "Token", el("input", { type: "password", key: "token", value: at.token || "", autocomplete: "off", oninput: (event) => { at.token = event.target.value; } })),
      el("label", {}, "Process", el("select", { key: "process", onchange: (event) => { at.process = event.target.value; } },
        found.map((one) => el("option", { value: one.address, selected: one.address === at.process }, one.name)))),
      el("label", {}, "Level", el("select", { key: "level", onchange: (event) => { at.level = event.target.value; } },
        LEVELS.map((one) => el("option", { value: one, selected: one === (at.level || "INFO") }, one)))),
      el("button", { type: "button", key: "set", onclick: () => run("level", at.level || "INFO") }, "Set the level"),
      el("button", { type: "button", key: "drain", onclick: () => run("drain", "", "Drain it? It accepts no more connections, and that can't be taken back.") }, "Drain")),
    el("p", { role: "status" }, at.said || ""));
}
