// One handshake, message by message.

import { el, facts, id, mark, show } from "/static/dom.js";
import { count, time } from "/static/words.js";

export const learn = {
  title: "Learn",
  lead: "How mutual TLS is made, from the real bytes of one of the newest handshakes here: what each message has in it, and what it proves.",
  words: (page) => ({ id: page.words.get("id") || "" }),
  draw(place, record, page) {
    const one = record.shown;
    if (!one) { show(place, el("p", { class: "empty" }, "No sidecar has noted a handshake yet: a connection is needed.")); return; }
    const wanted = page.words.get("id");
    show(place,
      el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
        el("label", {}, "Handshake", el("select", { key: "handshake", onchange: (event) => page.go("learn", { id: event.target.value }) },
          el("option", { value: "", selected: !wanted }, "the newest that ended well"),
          record.handshakes.map((each) => el("option", { value: each.connection_id, selected: each.connection_id === wanted },
            `${each.connection_id}, ${time(each.ended)}, ${each.process} ${each.direction}${each.finished ? "" : ", refused"}`))))),
      wanted && wanted !== one.connection_id ? el("p", { class: "problem" }, `The messages of ${wanted} are not kept any more: sidecars keep a few. This is another one.`) : null,
      el("section", { class: "panel", "aria-label": "Handshake" }, facts([
        ["connection", el("button", { class: "link id", type: "button", key: "story", onclick: () => page.go("connections", { id: one.connection_id }) }, one.connection_id)],
        ["seen by", `${one.process}, as ${one.direction === "inbound" ? "the server" : "the client"}`],
        ["ended", [time(one.ended), " ", one.finished ? mark("ok", "both sides are proven") : mark("bad", "refused")]],
        ["encrypted", "all messages from EncryptedExtensions on; the sidecar shows what it decrypted itself"],
      ])),
      el("ol", { class: "steps" }, one.messages.map((each, at) => step(each, at, one.connection_id))));
  },
};

function step(one, at, connection) {
  return el("li", { class: `${one.sender}${one.alert ? " alert" : ""}` },
    el("div", { class: "who" }, `${at + 1}. ${one.sender === "client" ? "client \u2192 server" : "server \u2192 client"}`, el("br"), `${count(one.length)} bytes`),
    el("div", {},
      el("h3", {}, one.name),
      el("p", {}, one.proves),
      one.fields.length ? el("details", { key: `fields ${connection} ${at}` }, el("summary", {}, `What is in ${one.name}`),
        facts(one.fields.map(([name, value]) => [name, id(value)]))) : null,
      one.hex ? el("details", { key: `bytes ${connection} ${at}` }, el("summary", {}, `Bytes of ${one.name}`), el("pre", { tabindex: 0 }, dump(one.hex))) : null));
}

function dump(hex) {
  const lines = [];
  for (let at = 0; at < hex.length; at += 32) {
    const part = hex.slice(at, at + 32).match(/../g);
    const text = part.map((one) => { const code = parseInt(one, 16); return code > 31 && code < 127 ? String.fromCharCode(code) : "."; }).join("");
    lines.push(`${(at / 2).toString(16).padStart(4, "0")}  ${part.join(" ").padEnd(47)}  ${text}`);
  }
  return lines.join("\n");
}
