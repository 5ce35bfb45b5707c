// Numbers and moments for people.

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let at = 0;
  let value = count || 0;
  while (value >= 1024 && at < BYTES.length - 1) { value /= 1024; at += 1; }
  return `${at ? value.toFixed(1) : value} ${BYTES[at]}`;
}

export function count(number) {
  return (number || 0).toLocaleString("en");
}

export function rate(number) {
  return (number || 0) >= 10 ? String(Math.round(number)) : (number || 0).toFixed(1);
}

export function ms(number) {
  if (number === null || number === undefined) return "\u2013";
  return number >= 10000 ? `${(number / 1000).toFixed(1)} s` : `${number.toFixed(number < 10 ? 2 : 0)} ms`;
}

export function time(text) {
  if (!text) return "\u2013";
  const at = new Date(text);
  const clock = at.toISOString().slice(11, 19);
  return at.toDateString() === new Date().toDateString() ? `${clock}Z` : `${at.toISOString().slice(0, 10)} ${clock}Z`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"], [Math.floor(whole / 60) % 60, "m"],
    [whole % 60, "s"]];
  const first = parts.findIndex(([number]) => number);
  return first < 0 ? "0s" : parts.slice(first, first + 2).map(([number, unit]) => `${number}${unit}`).join(" ");
}

// The part of an ID that tells it from others of its trust domain, for places with little room.
export function short(id) {
  if (!id) return "(not proven)";
  const parts = id.replace(/^spiffe:\/\//, "").split("/");
  const last = parts[parts.length - 1];
  return last.length > 22 ? `${last.slice(0, 20)}\u2026` : last;
}
