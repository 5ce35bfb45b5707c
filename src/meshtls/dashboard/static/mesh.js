// Who talks to whom: a graph, and the same as a table.

import { el, facts, id, mark, panel, show, svg, table } from "/static/dom.js";
import { placed } from "/static/layout.js";
import { bytes, count, ms, rate, short } from "/static/words.js";

const STATES = {
  mtls: ["ok", "mutual TLS", "all of it"],
  plaintext: ["warn", "plaintext", "some or all of it"],
  tls: ["plain", "TLS", "to a server outside of the mesh"],
  denied: ["bad", "denied", "nothing was served"],
  failed: ["warn", "failed", "nothing was served, and nothing denied"],
};
// As wide as the place for it, so that its texts have their size.
const NARROWEST = 300;
const WIDEST = 1200;
const MANY = 40;
const ROWS = 100;

export const mesh = {
  title: "Mesh",
  lead: "Who talks to whom, since each sidecar started; rates are over the last minute. Choose a workload or an edge for more.",
  draw(place, record, page) {
    const { nodes, edges } = record;
    if (!nodes.length) { show(place, el("p", { class: "empty" }, "No sidecar has answered yet.")); return; }
    page.state.places = placed(nodes.map((one) => one.id), edges.map((one) => [one.source, one.destination]), page.state.places);
    const chosen = page.words.get("id");
    const of = chosen ? edges.filter((one) => one.source === chosen || one.destination === chosen) : edges;
    show(place,
      panel("Graph", legend(), graph(nodes, edges, page, chosen, Math.min(WIDEST, Math.max(NARROWEST, place.clientWidth - 34)))),
      chosen && detail(nodes.find((one) => one.id === chosen), of, chosen, page),
      el("section", { class: "panel", "aria-label": "Edges" }, edgesTable(of, chosen, page)));
  },
};

function legend() {
  return el("ul", { class: "legend" }, Object.entries(STATES).map(([name, [, word, how]]) =>
    el("li", {}, svg("svg", { class: "graph", viewBox: "0 0 42 12", "aria-hidden": "true" },
      svg("path", { class: `edge ${name}`, d: "M1 6H41" })), `${word}: ${how}`)));
}

function graph(nodes, edges, page, chosen, width) {
  const places = page.state.places;
  const many = nodes.length > MANY;
  const height = nodes.length < 3 ? 260 : many ? 900 : 480;
  const at = (name) => { const one = places.get(name); return { x: one.x * width, y: one.y * height }; };
  const radius = many ? 5 : 13;
  const held = new Set(nodes.filter((one) => one.sidecars.length).map((one) => one.id));
  const choose = (name) => page.go("mesh", name === chosen ? {} : { id: name });
  const drawn = edges.map((one) => edge(one, at, radius, many, chosen, choose));
  const label = `${nodes.length} workloads and ${edges.length} edges; the table below has the same.`;
  return svg("svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    drawn,
    nodes.map((one) => {
      const { x, y } = at(one.id);
      const dim = chosen && one.id !== chosen && !edges.some((edge) =>
        (edge.source === chosen && edge.destination === one.id) || (edge.destination === chosen && edge.source === one.id));
      const classes = ["node", held.has(one.id) && "held", one.id === chosen && "chosen", dim && "dim"].filter(Boolean);
      return svg("g", { class: classes.join(" "), onclick: () => choose(one.id) },
        svg("title", {}, one.id),
        svg("circle", { cx: x, cy: y, r: radius }),
        (!many || one.id === chosen) && svg("text", { x, y: y < height / 2 - 1 ? y - radius - 8 : y + radius + 17 }, short(one.id)));
    }));
}

// An arc, so that the two directions of a pair are two lines.
function edge(one, at, radius, many, chosen, choose) {
  const from = at(one.source);
  const to = at(one.destination);
  const dim = chosen && one.source !== chosen && one.destination !== chosen ? " dim" : "";
  const title = `${one.source} to ${one.destination}: ${STATES[one.state][1]}, ${count(one.connections)} connections`;
  if (one.source === one.destination) {
    const path = `M${from.x - 6} ${from.y - radius}C${from.x - 45} ${from.y - 70} ${from.x + 45} ${from.y - 70} ${from.x + 6} ${from.y - radius}`;
    return svg("g", { class: dim }, svg("title", {}, title), svg("path", { class: `edge ${one.state}`, d: path }));
  }
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const unit = { x: (to.x - from.x) / length, y: (to.y - from.y) / length };
  const bend = Math.min(length * 0.16, 60);
  const middle = { x: (from.x + to.x) / 2 - unit.y * bend, y: (from.y + to.y) / 2 + unit.x * bend };
  const slope = Math.hypot(to.x - middle.x, to.y - middle.y) || 1;
  const end = { x: to.x - ((to.x - middle.x) / slope) * (radius + 3), y: to.y - ((to.y - middle.y) / slope) * (radius + 3) };
  const path = `M${from.x} ${from.y}Q${middle.x} ${middle.y} ${end.x} ${end.y}`;
  const size = many ? 5 : 9;
  const way = { x: (end.x - middle.x) / slope, y: (end.y - middle.y) / slope };
  const head = `M${end.x} ${end.y}l${-way.x * size - way.y * size * 0.45} ${-way.y * size + way.x * size * 0.45}`
    + `l${way.y * size * 0.9} ${-way.x * size * 0.9}z`;
  return svg("g", { class: dim, onclick: () => choose(one.destination) },
    svg("title", {}, title),
    svg("path", { class: `edge ${one.state}`, d: path }),
    svg("path", { class: `head ${one.state}`, d: head }),
    !many && svg("path", { class: "hit", d: path }),
    !many && svg("text", { class: "rate", ...label(from, middle, end) }, words(one)));
}

// Nearer to the source, since arcs cross in the middle.
function label(from, middle, end) {
  const part = 0.36;
  const at = (axis) => (1 - part) ** 2 * from[axis] + 2 * part * (1 - part) * middle[axis] + part ** 2 * end[axis];
  return { x: at("x"), y: at("y") - 6 };
}

function words(one) {
  const parts = [`${rate(one.connections_per_second)}/s`];
  if (one.request_ms !== null) parts.push(ms(one.request_ms));
  if (one.denied) parts.push(`${count(one.denied)} denied`);
  if (one.denied_requests) parts.push(`${count(one.denied_requests)} requests denied`);
  return parts.join(", ");
}

function detail(node, edges, chosen, page) {
  const into = edges.filter((one) => one.destination === chosen);
  const sum = (name, of) => of.reduce((total, one) => total + (one[name] || 0), 0);
  return panel("Workload",
    facts([
      ["SPIFFE ID", id(chosen)],
      ["sidecars", node ? node.sidecars.join(", ") || "none that the dashboard was told of" : "none"],
      ["called by", `${into.length} identities, ${count(sum("connections", into))} connections, ${count(sum("denied", into))} denied`],
      ["live now", count(sum("live", edges))],
      ["requests", `${count(sum("requests", edges))}, ${count(sum("denied_requests", edges))} denied`],
    ]),
    el("p", {},
      el("button", { key: "connections", type: "button", onclick: () => page.go("connections", { q: chosen.startsWith("spiffe://") ? chosen : chosen === "(plaintext)" ? "plaintext" : "" }) }, "Its connections"), " ",
      el("button", { key: "all", type: "button", onclick: () => page.go("mesh") }, "Show all workloads")));
}

function edgesTable(edges, chosen, page) {
  const name = (one) => el("button", { class: "link id", type: "button", key: `node ${one}`, onclick: () => page.go("mesh", { id: one }) }, one);
  const rows = [...edges].sort((a, b) => b.connections_per_second - a.connections_per_second || b.connections - a.connections);
  const more = rows.length > ROWS ? `, the ${ROWS} most frequent` : "";
  return table(`Edges${chosen ? " of this workload" : ""} (${count(rows.length)}${more})`, [
    ["from", (one) => name(one.source)],
    ["to", (one) => name(one.destination)],
    ["security", (one) => mark(STATES[one.state][0], STATES[one.state][1])],
    ["live", (one) => count(one.live), "number"],
    ["ended", (one) => count(one.connections), "number"],
    ["denied", (one) => count(one.denied), "number"],
    ["failed", (one) => count(one.failed), "number"],
    ["requests", (one) => count(one.requests), "number"],
    ["requests denied", (one) => count(one.denied_requests), "number"],
    ["requests failed", (one) => count(one.failed_requests - one.denied_requests), "number"],
    ["connections/s", (one) => rate(one.connections_per_second), "number"],
    ["requests/s", (one) => rate(one.requests_per_second), "number"],
    ["latency", (one) => ms(one.request_ms), "number"],
    ["in", (one) => bytes(one.bytes_in), "number"],
    ["out", (one) => bytes(one.bytes_out), "number"],
  ], rows.slice(0, ROWS), "no connection has ended yet");
}
