// Builds elements. Text from the mesh is only ever set as text: there is no way to HTML here.

const SVG = "http://www.w3.org/2000/svg";

// A child is an element, a text or a number; null, undefined and false are left out.
export function el(name, fields = {}, ...children) {
  return filled(document.createElement(name), fields, children);
}

export function svg(name, fields = {}, ...children) {
  return filled(document.createElementNS(SVG, name), fields, children);
}

function filled(node, fields, children) {
  for (const [name, value] of Object.entries(fields)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "key") node.dataset.key = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

// Replaces what is shown, and keeps the focus on the element with the same key, and each open <details> open.
export function show(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = new Set([...place.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  const scrolled = [...place.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  place.replaceChildren(...children.flat(Infinity).filter((one) => one));
  for (const one of place.querySelectorAll("details")) if (open.has(one.dataset.key)) one.open = true;
  [...place.querySelectorAll(".scroll")].forEach((one, at) => { one.scrollLeft = scrolled[at] || 0; });
  if (focused) {
    const again = [...place.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused);
    if (again) again.focus({ preventScroll: true });
  }
}

// Columns are [heading, cell of a row, "number" or nothing]; the first cell of a row is its heading.
export function table(caption, columns, rows, none = "nothing yet") {
  if (!rows.length) return el("p", { class: "empty" }, `${caption}: ${none}.`);
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el("table", {},
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, columns.map(([name, , kind]) => el("th", { scope: "col", class: kind }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, columns.map(([, cell, kind], at) =>
        el(at ? "td" : "th", { class: kind, scope: at ? null : "row" }, cell(row))))))));
}

export function panel(heading, ...children) {
  return el("section", { class: "panel", "aria-label": heading }, el("h2", {}, heading), children);
}

export function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

export function id(text) {
  return el("span", { class: "id" }, text === null || text === undefined ? "(not proven)" : text);
}

const MARKS = {
  ok: ["ok", "\u2713"], bad: ["bad", "\u2715"], warn: ["warn", "!"], plain: ["", "\u2022"],
};

// A word with a sign of its own, so that no colour is needed to tell it from others.
export function mark(kind, text) {
  const [name, sign] = MARKS[kind];
  return el("span", { class: `mark ${name}` }, el("span", { "aria-hidden": "true" }, sign), text);
}
