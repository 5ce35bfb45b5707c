// Shows one page at a time, named by the part of the URL after #, and asks again for what has changed.

import { el, show } from "/static/dom.js";
import { connections } from "/static/connections.js";
import { denials } from "/static/denials.js";
import { identities } from "/static/identities.js";
import { learn } from "/static/learn.js";
import { mesh } from "/static/mesh.js";
import { policies } from "/static/policies.js";
import { processes } from "/static/processes.js";
import { trust } from "/static/trust.js";

const PAGES = { mesh, identities, connections, denials, policies, trust, learn, processes };
const SOONEST = 1000;
const at = { name: "", words: new URLSearchParams(), versions: {}, shown: 0, asking: false, again: false, state: {}, timer: 0 };
const $ = (name) => document.getElementById(name);

// What a page is given beside its record.
const page = {
  get words() { return at.words; },
  get state() { return at.state; },
  may: { act: false },
  // Goes to a page; words that are empty are left out.
  go(name, words = {}, { replace = false } = {}) {
    const kept = new URLSearchParams(Object.entries(words).filter(([, value]) => value));
    const hash = `#${name}${kept.size ? `?${kept}` : ""}`;
    if (replace) { history.replaceState(null, "", hash); arrive(); } else location.hash = hash;
  },
  refresh: () => refresh(),
  redraw: () => draw(),
  tell: (text) => { $("told").textContent = text; },
  ask,
};

export async function ask(path, words = {}, options = {}) {
  const search = new URLSearchParams(Object.entries(words).filter(([, value]) => value !== "" && value !== null));
  const answer = await fetch(`/api/${path}${search.size ? `?${search}` : ""}`, options);
  const record = await answer.json();
  if (!answer.ok) throw new Error(record.error || `it answered ${answer.status}`);
  return record;
}

let record = null;

function draw() {
  if (record) PAGES[at.name].draw($("view"), record, page);
}

async function refresh() {
  if (at.asking) { at.again = true; return; }
  at.asking = true;
  const name = at.name;
  try {
    const got = await ask(name, PAGES[name].words ? PAGES[name].words(page) : {});
    if (name === at.name) { record = got; draw(); $("view").dataset.ready = name; }
  } catch (error) {
    if (name === at.name) show($("view"), el("p", { class: "problem", role: "alert" }, String(error.message)));
  } finally {
    at.asking = false;
    at.shown = Date.now();
    if (at.again || name !== at.name) { at.again = false; refresh(); }
  }
}

// Changes come often; what is shown is asked for at most once in this time.
function soon() {
  if (at.timer || document.hidden) return;
  at.timer = setTimeout(() => { at.timer = 0; refresh(); }, Math.max(0, SOONEST - (Date.now() - at.shown)));
}

function arrive() {
  const [name, search] = location.hash.slice(1).split("?");
  const next = Object.hasOwn(PAGES, name) ? name : "mesh";
  at.words = new URLSearchParams(search || "");
  if (next !== at.name) {
    const first = at.name === "";
    at.name = next;
    at.state = {};
    record = null;
    delete $("view").dataset.ready;
    $("view").replaceChildren();
    $("title").textContent = PAGES[next].title;
    $("lead").textContent = PAGES[next].lead;
    document.title = `${PAGES[next].title} \u2013 meshtls`;
    for (const link of $("pages").querySelectorAll("a")) {
      if (link.hash === `#${next}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (!first) { $("content").focus({ preventScroll: true }); scrollTo(0, 0); }
  }
  refresh();
}

function follow() {
  const stream = new EventSource("/api/changes");
  stream.onopen = () => { $("feed").textContent = "live"; $("feed").classList.remove("off"); };
  stream.onerror = () => { $("feed").textContent = "not connected: is the dashboard running?"; $("feed").classList.add("off"); };
  stream.onmessage = (event) => {
    const versions = JSON.parse(event.data);
    const changed = versions[at.name] !== at.versions[at.name];
    at.versions = versions;
    if (changed) soon();
  };
}

$("skip").addEventListener("click", (event) => { event.preventDefault(); $("content").focus(); });
$("pages").append(...Object.entries(PAGES).map(([name, one]) => el("li", {}, el("a", { href: `#${name}` }, one.title))));
addEventListener("hashchange", arrive);
document.addEventListener("visibilitychange", () => soon());
setInterval(() => { if (record && PAGES[at.name].tick && !document.hidden) PAGES[at.name].tick($("view")); }, 1000);
page.may.act = (await ask("about")).may_act;
arrive();
follow();
