// Where leafs, nodes and GPUs are drawn, and what is under a point.
const PAD = 8, GAP = 10, HEAD = 20, NIC = 5;
let boxes = { width: 0 };

const WRAP = 18, MOST_HEIGHT = 560, MOST_CELL = 30, LEAST_WIDTH = 56, LEAST_ALONE = 104, CORE_ROW = 18;
const columnsOf = (node) => Math.min(node.gpus, WRAP), linesOf = (node) => Math.ceil(node.gpus / WRAP);
const coreRows = E.core.map((pairs, pod) => ({ pod, pairs })).filter((row) => row.pairs.length);

// Places of groups, nodes and cells for a width: large cells, full rows, and not too high.
function placed(width) {
  const slots = Math.max(1, ...nodes.map(columnsOf)), frame = NIC + 3 + 2 * PAD + GAP;
  const least = E.groups[0].lines ? LEAST_ALONE : LEAST_WIDTH;
  const tried = E.groups.map((_, k) => {
    const perRow = k + 1, rows = Math.ceil(E.groups.length / perRow);
    const cell = Math.min(MOST_CELL, ((width + GAP) / perRow - frame) / slots);
    const found = leafs(perRow, Math.max(cell, 1));
    found.worth = (cell * E.groups.length) / (perRow * rows) - found.height / 40;
    if (found.height > MOST_HEIGHT) found.worth -= found.height;
    if (cell < 1 || perRow * (least + GAP) > Math.max(width, least) + GAP) found.worth -= 1e6;
    return found;
  });
  const best = tried.reduce((one, other) => (other.worth > one.worth ? other : one));
  return { ...best, width, top: best.height, height: best.height + CORE_ROW * coreRows.length + (coreRows.length ? 6 : 0) };
}

function leafs(perRow, cell) {
  const found = { cell, gap: Math.min(3, cell / 4), groups: [], nodes: [], height: 0 };
  let x = 0, y = 0, row = 0;
  E.groups.forEach((group, k) => {
    if (k && k % perRow === 0) { x = 0; y += row + GAP; row = 0; }
    const w = Math.max(Math.max(...group.nodes.map(columnsOf)) * cell + NIC + 3 + 2 * PAD, group.lines ? LEAST_ALONE : LEAST_WIDTH);
    const strip = group.uplinks.length ? 10 : 0, head = group.lines ? 14 * group.lines.length + 6 : HEAD;
    const h = group.nodes.reduce((sum, node) => sum + linesOf(node) * (cell + found.gap), 0) + head + strip + 2 * PAD - found.gap;
    found.groups.push({ group, x, y, w, h });
    let top = y + PAD + head + strip;
    for (const node of group.nodes) {
      found.nodes.push({ node, x: x + PAD, y: top, nic: x + w - PAD - NIC });
      top += linesOf(node) * (cell + found.gap);
    }
    x += w + GAP;
    row = Math.max(row, h);
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
