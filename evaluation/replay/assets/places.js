// Where leafs, nodes and GPUs are drawn, and what is under a point.
const PAD = 8, GAP = 10, HEAD = 20, NIC = 5;
let boxes = { width: 0 };

const WRAP = 18, MOST_HEIGHT = 600, MOST_CELL = 30, LEAST_WIDTH = 56, LEAST_ALONE = 104, CORE_ROW = 18, COLUMN_GAP = 7;
const columnsOf = (node) => Math.min(node.gpus, WRAP), linesOf = (node) => Math.ceil(node.gpus / WRAP);
const coreRows = E.core.map((pairs, pod) => ({ pod, pairs })).filter((row) => row.pairs.length);

// Places of groups, nodes and cells for a width: large cells, full rows, and not too high. Groups
// stand so many in a row, the nodes of each in so many columns; the best of all such ways is taken.
function placed(width) {
  const slots = Math.max(1, ...nodes.map(columnsOf));
  const least = E.groups[0].lines ? LEAST_ALONE : LEAST_WIDTH;
  const most = Math.max(...E.groups.map((group) => group.nodes.length));
  let best = null;
  for (let perRow = 1; perRow <= E.groups.length; perRow++) {
    if (perRow > 1 && perRow * (least + GAP) > width + GAP) break;
    for (const columns of [1, 2, 3, 4, 6, 8]) {
      const inside = (width + GAP) / perRow - GAP - 2 * PAD - (columns - 1) * COLUMN_GAP;
      const cell = Math.min(MOST_CELL, (inside / columns - NIC - 3) / slots);
      if (cell < 1 && best) continue;
      const found = leafs(perRow, columns, Math.max(cell, 1));
      const filled = fullness(E.groups.length, perRow) * fullness(most, columns);
      const over = Math.max(0, found.height - MOST_HEIGHT);
      found.worth = Math.log(found.cell * filled * (0.5 + (0.5 * found.used) / width)) - found.height / 900 - over / 300;
      if (!best || found.worth > best.worth) best = found;
    }
  }
  return { ...best, width, top: best.height, height: best.height + CORE_ROW * coreRows.length + (coreRows.length ? 6 : 0) };
}

// Share of places that are taken where items stand so many in a row.
const fullness = (items, perRow) => items / (perRow * Math.ceil(items / perRow));

function leafs(perRow, columns, cell) {
  const found = { cell, gap: Math.min(3, cell / 4), groups: [], nodes: [], height: 0, used: 0 };
  let x = 0, y = 0, row = 0;
  E.groups.forEach((group, k) => {
    if (k && k % perRow === 0) { x = 0; y += row + GAP; row = 0; }
    const wide = Math.max(...group.nodes.map(columnsOf)) * cell + NIC + 3;
    const head = group.lines ? 14 * group.lines.length + 6 : HEAD, top = y + PAD + head + (group.uplinks.length ? 10 : 0);
    const share = Math.ceil(group.nodes.length / columns), taken = Math.ceil(group.nodes.length / share);
    const w = Math.max(taken * (wide + COLUMN_GAP) - COLUMN_GAP + 2 * PAD, group.lines ? LEAST_ALONE : LEAST_WIDTH);
    let below = top, high = 0;
    group.nodes.forEach((node, n) => {
      if (n % share === 0) below = top;
      const left = x + PAD + Math.floor(n / share) * (wide + COLUMN_GAP);
      found.nodes.push({ node, x: left, y: below, nic: left + wide - NIC });
      below += linesOf(node) * (cell + found.gap);
      high = Math.max(high, below - found.gap - y + PAD);
    });
    found.groups.push({ group, x, y, w, h: high });
    x += w + GAP;
    row = Math.max(row, high);
    found.used = Math.max(found.used, x - GAP);
  });
  found.height = y + row;
  return found;
}

function placeOf(box, slot) {
  const step = boxes.cell, line = Math.floor(slot / WRAP);
  return [box.x + (slot % WRAP) * step, box.y + line * (step + boxes.gap)];
}

// What is under a point of the yard: {device}, {node} for its NIC, {group}, or null.
function underYard(x, y) {
  if (!boxes.nodes) return null;
  if (y >= boxes.top) return { core: coreRows[Math.floor((y - boxes.top - 6) / CORE_ROW)] };
  for (const box of boxes.nodes) {
    const height = linesOf(box.node) * (boxes.cell + boxes.gap);
    if (y < box.y || y >= box.y + height) continue;
    if (box.node.links && x >= box.nic - 2 && x <= box.nic + NIC + 2) return { node: box.node };
    const column = Math.floor((x - box.x) / boxes.cell), line = Math.floor((y - box.y) / (boxes.cell + boxes.gap));
    const slot = line * WRAP + column;
    if (column >= 0 && column < columnsOf(box.node) && slot < box.node.gpus) return { device: box.node.first + slot };
  }
  const hit = boxes.groups.find((box) => x >= box.x && x <= box.x + box.w && y >= box.y && y <= box.y + box.h);
  return hit ? { group: hit.group } : null;
}
