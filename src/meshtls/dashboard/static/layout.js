// Places the nodes of a graph: a ring for a few, and forces for many. The cost is bounded: so many steps, and no more
// once a graph of the same nodes has been placed.

const RING = 14;
const STEPS = 120;
const WORK = 4_000_000;

// ``nodes`` are names and ``edges`` pairs of them; ``before`` is the last result. Gives a Map of name to {x, y} in 0..1.
export function placed(nodes, edges, before) {
  if (before && before.size === nodes.length && nodes.every((one) => before.has(one))) return before;
  if (nodes.length <= RING) return ring(nodes);
  return forces(nodes, edges, before || new Map());
}

function ring(nodes) {
  if (nodes.length === 1) return new Map([[nodes[0], { x: 0.5, y: 0.5 }]]);
  if (nodes.length === 2) return new Map([[nodes[0], { x: 0.2, y: 0.5 }], [nodes[1], { x: 0.8, y: 0.5 }]]);
  return new Map(nodes.map((one, at) => {
    const angle = Math.PI + (2 * Math.PI * at) / nodes.length;
    return [one, { x: 0.5 + 0.4 * Math.cos(angle), y: 0.5 + 0.36 * Math.sin(angle) }];
  }));
}

// Fruchterman and Reingold's forces, from a spiral that depends on the order of the names alone: the same mesh looks the
// same each time.
function forces(nodes, edges, before) {
  const number = new Map(nodes.map((one, at) => [one, at]));
  const links = edges.map(([from, to]) => [number.get(from), number.get(to)]).filter(([from, to]) => from !== to);
  const points = nodes.map((one, at) => {
    const known = before.get(one);
    if (known) return { x: known.x, y: known.y, dx: 0, dy: 0 };
    const radius = 0.48 * Math.sqrt((at + 0.5) / nodes.length);
    return { x: 0.5 + radius * Math.cos(at * 2.39996), y: 0.5 + radius * Math.sin(at * 2.39996), dx: 0, dy: 0 };
  });
  const distance = 0.8 / Math.sqrt(nodes.length);
  const steps = Math.max(8, Math.min(STEPS, Math.floor(WORK / (nodes.length * nodes.length))));
  for (let step = 0; step < steps; step += 1) {
    for (const one of points) { one.dx = (0.5 - one.x) * distance * 0.6; one.dy = (0.5 - one.y) * distance * 0.6; }
    for (let a = 0; a < points.length; a += 1) {
      for (let b = a + 1; b < points.length; b += 1) {
        const dx = points[a].x - points[b].x;
        const dy = points[a].y - points[b].y;
        const push = (distance * distance) / Math.max(dx * dx + dy * dy, 1e-5);
        points[a].dx += dx * push; points[a].dy += dy * push;
        points[b].dx -= dx * push; points[b].dy -= dy * push;
      }
    }
    for (const [from, to] of links) {
      const dx = points[from].x - points[to].x;
      const dy = points[from].y - points[to].y;
      const pull = Math.hypot(dx, dy) / distance;
      points[from].dx -= dx * pull; points[from].dy -= dy * pull;
      points[to].dx += dx * pull; points[to].dy += dy * pull;
    }
    const most = 0.08 * (1 - step / steps) + 0.002;
    for (const one of points) {
      const length = Math.hypot(one.dx, one.dy) || 1;
      one.x = Math.min(0.97, Math.max(0.03, one.x + (one.dx / length) * Math.min(length, most)));
      one.y = Math.min(0.96, Math.max(0.04, one.y + (one.dy / length) * Math.min(length, most)));
    }
  }
  return new Map(nodes.map((one, at) => [one, { x: points[at].x, y: points[at].y }]));
}
