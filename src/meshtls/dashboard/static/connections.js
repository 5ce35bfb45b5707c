// Live and ended connections, a part of the list at a time, and the story of one of them.

import { el, id, mark, panel, show, table } from "/static/dom.js";
import { bytes, count, duration, ms, short, time } from "/static/words.js";

const VERDICTS = { allowed: "ok", denied: "bad", failed: "warn", live: "plain" };
const LIMIT = 100;

export const connections = {
  title: "Connections",
  lead: "Those that live and the newest that ended, the two sides of each together. Explain one to see what both sidecars recorded.",
  words(page) {
    const found = Object.fromEntries(["state", "verdict", "q", "offset"].map((name) => [name, page.words.get(name) || ""]));
    return { ...found, limit: LIMIT };
  },
  draw(place, record, page) {
    if (!place.querySelector("#filters")) show(place, filters(page), el("div", { id: "story" }), el("div", { id: "rows" }));
    const typed = place.querySelector("input[type=search]");
    if (document.activeElement !== typed) typed.value = page.words.get("q") || "";
    for (const name of ["state", "verdict"]) place.querySelector(`select[name=${name}]`).value = page.words.get(name) || "";
    show(place.querySelector("#rows"), el("section", { class: "panel", "aria-label": "Connections" }, rows(record, page), pager(record, page)));
    const wanted = page.words.get("id") || "";
    if (page.state.story !== wanted) { page.state.story = wanted; tell(place.querySelector("#story"), wanted, page); }
  },
};

function all(page, more) {
  return { ...Object.fromEntries(page.words), ...more };
}

function filters(page) {
  const pick = (name, label, values) => el("label", {}, label, el("select", { name, key: name,
    onchange: (event) => page.go("connections", all(page, { [name]: event.target.value, offset: "" })) },
    values.map(([value, word]) => el("option", { value }, word))));
  let waiting = 0;
  const typed = (event) => {
    clearTimeout(waiting);
    const text = event.target.value;
    waiting = setTimeout(() => page.go("connections", all(page, { q: text, offset: "" }), { replace: true }), 250);
  };
  return el("form", { class: "filters", id: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    el("label", {}, "Find an ID, an address or words of the reason", el("input", { type: "search", key: "q", oninput: typed, value: page.words.get("q") || "" })),
    pick("state", "State", [["", "live and ended"], ["live", "live"], ["ended", "ended"]]),
    pick("verdict", "Verdict", [["", "any"], ["allowed", "allowed"], ["denied", "denied"], ["failed", "failed"]]));
}

function rows(record, page) {
  return table(`${count(record.total)} connections, ${count(record.live)} of them live`, [
    ["connection", (one) => el("button", { class: "link id whole", type: "button", key: `id ${one.id}`, "aria-label": `Explain connection ${one.id}`,
      onclick: () => page.go("connections", all(page, { id: one.id })) }, one.id)],
    ["began", (one) => time(one.time)],
    ["from", (one) => el("span", { class: "whole", title: one.source || "" }, short(one.source))],
    ["to", (one) => el("span", { class: "whole", title: one.destination || "" }, short(one.destination))],
    ["verdict", (one) => mark(VERDICTS[one.verdict] || "plain", one.state === "ended" ? one.outcome || one.verdict : one.state)],
    ["security", (one) => (one.security === "plaintext" ? mark("warn", "plaintext") : one.security ? one.tls_version || one.security.replace("_", " ") : "\u2013")],
    ["requests", (one) => count(one.requests), "number"],
    ["in", (one) => bytes(one.bytes_in), "number"],
    ["out", (one) => bytes(one.bytes_out), "number"],
    ["took", (one) => (one.total_ms === null ? duration(one.seconds || 0) : ms(one.total_ms)), "number"],
    ["recorded by", (one) => el("span", { title: one.sides.join(", ") }, one.sides.map((side) => side.replace(/ \([a-z]+\)$/, "")).join(", "))],
  ], record.rows, "none that fits");
}

function pager(record, page) {
  const to = (offset) => page.go("connections", all(page, { offset: offset || "" }));
  const last = record.offset + record.rows.length;
  return el("nav", { class: "pager", "aria-label": "Parts of the list" },
    el("button", { type: "button", key: "newer", disabled: record.offset === 0, onclick: () => to(Math.max(0, record.offset - LIMIT)) }, "Newer"),
    el("button", { type: "button", key: "older", disabled: last >= record.total, onclick: () => to(record.offset + LIMIT) }, "Older"),
    el("p", { class: "soft" }, record.rows.length ? `${count(record.offset + 1)} to ${count(last)} of ${count(record.total)}` : ""));
}

async function tell(place, wanted, page) {
  if (!wanted) { show(place); return; }
  const close = el("button", { type: "button", key: "close", onclick: () => page.go("connections", all(page, { id: "" })) }, "Close");
  try {
    const { connections: found } = await page.ask("story", { id: wanted });
    if (page.state.story !== wanted) return;
    show(place, panel(`Connection ${wanted}`,
      found.map((one) => [
        el("pre", {}, one.story.join("\n")),
        one.requests.length ? requests(one.requests) : null,
        el("details", { key: "records" }, el("summary", {}, "The records of both sides"),
          el("pre", {}, JSON.stringify({ caller: one.caller, server: one.server }, null, 2)))]),
      el("p", {}, el("button", { type: "button", key: "learn", onclick: () => page.go("learn", { id: wanted.split("-")[0] }) }, "Its handshake"), " ", close)));
  } catch (error) {
    show(place, panel(`Connection ${wanted}`, el("p", { class: "problem" }, error.message), close));
  }
  page.tell(`The story of connection ${wanted} is shown above the list.`);
  place.scrollIntoView({ block: "nearest" });
}

function requests(found) {
  return table("HTTP requests on it", [
    ["request", (one) => id(`${one.method} ${one.host}${one.path}`)],
    ["at", (one) => time(one.time)],
    ["verdict", (one) => mark(VERDICTS[one.verdict] || "plain", one.outcome)],
    ["status", (one) => one.status, "number"],
    ["took", (one) => ms(one.total_ms), "number"],
    ["why", (one) => one.detail],
  ], found);
}
