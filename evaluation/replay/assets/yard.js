// The devices: leafs, their nodes, and in each node its GPUs, coloured by what holds them.
let colours = {}, ramp = [];
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "card", "ink", "soft", "line", "accent", "on-job", "free", "down", "waiting", "bad"];
  for (let k = 0; k < 6; k++) names.push(`job-${k}`, `role-${k}`);
  for (let k = 0; k < 3; k++) names.push(`load-${k}`);
  for (const phase of E.words.request) names.push(`phase-${phase}`);
  ramp = [];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
const roleColour = (role) => colours[`role-${Math.max(role, 0) % 6}`];
const jobColour = (gang) => colours[`job-${(gang - E.gangs.services) % 6}`];
const roleOf = E.gangs.name.map((_, gang) => (E.replicas.find((replica) => replica.gang === gang) || { role: 0 }).role);
const gangColour = (gang) => (isJob(gang) ? jobColour(gang) : roleColour(roleOf[gang]));

// Dark or light, whichever reads better on a colour.
const inkOn = (hex) => {
  const [r, g, b] = rgb(hex);
  return 0.3 * r + 0.59 * g + 0.11 * b > 125 ? "#10161d" : "#ffffff";
};
const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
function loadColour(load) {
  return (ramp[Math.round(100 * load)] ??= rampColour(load));
}
function rampColour(load) {
  const [from, to, share] =
    load < 0.5 ? [colours["load-0"], colours["load-1"], 2 * load] : [colours["load-1"], colours["load-2"], 2 * load - 1];
  const [a, b] = [rgb(from), rgb(to)];
  return `rgb(${a.map((x, k) => Math.round(x + share * (b[k] - x))).join(",")})`;
}

// A canvas as wide as its place and of a given height, ready to draw on in CSS pixels.
function prepared(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
  canvas.style.height = `${height}px`;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

const yard = document.getElementById("yard");
// Share of a device's memory in use.
function memory(device, gang, replica, t) {
  if (replica >= 0) return E.replicas[replica].weights + E.replicas[replica].kv * kvUse(replica, t);
  return Math.min(1, E.gangs.memory[gang] / nodeOf[device].memory);
}

function drawYard(t, now, chosen) {
  if (boxes.width !== yard.clientWidth) boxes = placed(yard.clientWidth);
  const pen = prepared(yard, boxes.height), side = boxes.cell - (boxes.cell > 6 ? 1.5 : 0.5);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  for (const { group, x, y, w, h } of boxes.groups) {
    pen.strokeStyle = colours.line;
    pen.beginPath();
    pen.roundRect(x + 0.5, y + 0.5, w - 1, h - 1, 7);
    pen.stroke();
    pen.fillStyle = colours.soft;
    pen.textAlign = "left";
    (group.lines || [w < 90 ? group.name.replace(/leaf |,.*/g, "") : group.name]).forEach((line, k) => pen.fillText(line, x + PAD, y + PAD + 6 + 14 * k, w - 2 * PAD));
    const loads = group.uplinks.map((pair) => busier(pair, t));
    if (!loads.length) continue;
    pen.textAlign = "right";
    if (w > 110) pen.fillText(`${Math.round(100 * Math.max(...loads))} %`, x + w - PAD, y + PAD + 6);
    const step = (w - 2 * PAD) / loads.length;
    loads.forEach((load, k) => {
      pen.fillStyle = loadColour(load);
      pen.fillRect(x + PAD + k * step, y + PAD + HEAD - 5, Math.max(step - (step > 4 ? 1 : 0), 0.5), 8);
    });
  }
  pen.textAlign = "left";
  for (const box of boxes.nodes) drawNode(pen, box, side, t, now, chosen);
  coreRows.forEach(({ pod, pairs }, row) => {
    const y = boxes.top + 6 + row * CORE_ROW, begin = 86, step = (boxes.width - begin) / pairs.length;
    pen.fillStyle = colours.soft;
    pen.textAlign = "left";
    pen.fillText(`pod ${pod} to core`, 0, y + 6);
    pairs.forEach((pair, k) => {
      pen.fillStyle = loadColour(busier(pair, t));
      pen.fillRect(begin + k * step, y + 1, Math.max(step - (step > 4 ? 1 : 0), 0.5), 9);
    });
  });
}

// Neighbours on a line that are held alike are one label, and one rectangle where cells are tiny.
function drawNode(pen, box, side, t, now, chosen) {
  const { node } = box, seam = boxes.cell - side;
  for (let slot = 0, alike; slot < node.gpus; slot += alike) {
    const device = node.first + slot, lineEnd = Math.min((Math.floor(slot / WRAP) + 1) * WRAP, node.gpus);
    alike = 1;
    while (slot + alike < lineEnd && now.held[device + alike] === now.held[device] && now.on[device + alike] === now.on[device]) alike++;
    const [x, y] = placeOf(box, slot), wide = alike * boxes.cell - seam;
    if (boxes.cell < 8) drawCell(pen, x, y, wide, side, device, t, now, chosen);
    else for (let k = 0; k < alike; k++) drawCell(pen, x + k * boxes.cell, y, side, side, device + k, t, now, chosen);
    const name = String(now.held[device] - E.gangs.services);
    if (now.held[device] < 0 || now.on[device] >= 0 || boxes.cell < 13 || pen.measureText(name).width + 3 > wide) continue;
    pen.fillStyle = colours["on-job"];
    pen.fillText(name, x + 3, y + side / 2);
  }
  if (!node.links) return;
  pen.fillStyle = loadColour(busier(node.links, t));
  pen.fillRect(box.nic, box.y, NIC, linesOf(node) * (boxes.cell + boxes.gap) - boxes.gap - seam);
}

function drawCell(pen, x, y, wide, side, device, t, now, chosen) {
  const replica = now.on[device], gang = now.held[device];
  pen.fillStyle = gang === DOWN ? colours.down : colours.free;
  pen.fillRect(x, y, wide, side);
  if (gang === DOWN) cross(pen, x + (wide - side) / 2, y, side);
  if (gang === DOWN || (gang === FREE && replica < 0)) return;
  const faded = chosen !== null && chosen !== (gang >= 0 ? gang : -2 - replica) ? 0.25 : 1;
  const phase = replica >= 0 && gang >= 0 ? now.phase[replica] : SERVING;
  const fill = phase === STARTING ? E.replicas[replica].weights : memory(device, gang, replica, t);
  pen.fillStyle = replica >= 0 ? roleColour(E.replicas[replica].role) : gangColour(gang);
  pen.globalAlpha = 0.38 * faded;
  pen.fillRect(x, y, wide, side);
  pen.globalAlpha = (phase === STARTING ? 0.35 : 1) * faded;
  pen.fillRect(x, y + side * (1 - fill), wide, side * fill);
  pen.globalAlpha = faded;
  if (phase === STARTING || phase === DRAINING) hatch(pen, x, y, wide, side, phase === DRAINING);
  pen.globalAlpha = 1;
}

function hatch(pen, x, y, wide, side, falling) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, wide, side);
  pen.clip();
  pen.strokeStyle = colours.card;
  pen.lineWidth = falling ? 2 : 1.4;
  pen.beginPath();
  for (let k = -side; k < wide + side; k += falling ? 6 : 5) {
    pen.moveTo(x + k, falling ? y : y + side);
    pen.lineTo(x + k + side, falling ? y + side : y);
  }
  pen.stroke();
  pen.restore();
}

function cross(pen, x, y, side) {
  pen.strokeStyle = colours.soft;
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x + side * 0.3, y + side * 0.3);
  pen.lineTo(x + side * 0.7, y + side * 0.7);
  pen.moveTo(x + side * 0.7, y + side * 0.3);
  pen.lineTo(x + side * 0.3, y + side * 0.7);
  pen.stroke();
}

function aboutLinks(name, pairs, t) {
  const loads = pairs.map((pair) => busier(pair, t)), mean = loads.reduce((a, b) => a + b, 0) / loads.length;
  const percent = (load) => `${Math.round(100 * load)} %`;
  return `${name}\nload of the busier direction: ${percent(mean)} mean, ${percent(Math.max(...loads))} most`;
}

function aboutYard(hit, t, now) {
  if ("core" in hit) return hit.core ? aboutLinks(`${hit.core.pairs.length} links of pod ${hit.core.pod} to the core`, hit.core.pairs, t) : "";
  if (hit.node) {
    const [up, down] = hit.node.links.map((link) => Math.round(100 * linkLoad(t, link)));
    return `${hit.node.name}: its NICs\nup ${up} %, down ${down} % of their rate`;
  }
  if (hit.group) {
    if (!hit.group.uplinks.length) return hit.group.name;
    return aboutLinks(`${hit.group.name}: ${hit.group.uplinks.length} uplinks`, hit.group.uplinks, t);
  }
  const device = hit.device, node = nodeOf[device], gang = now.held[device], replica = now.on[device];
  const head = `${node.name}, GPU ${device - node.first} (${node.gpu})`;
  if (gang === DOWN) return `${head}\nnode has failed`;
  if (gang === FREE && replica < 0) return `${head}\nfree`;
  const used = `memory ${Math.round(100 * memory(device, gang, replica, t))} %`;
  if (replica >= 0) return `${head}, ${used}\n${aboutReplica(replica, t)}`;
  return `${head}, ${used}\n${aboutGang(gang, t)}`;
}

function aboutGang(gang, t) {
  const run = runsOf[gang].find((one) => one.start <= t && t < one.end), gpus = E.gangs.gpus[gang];
  const lines = [`${E.gangs.name[gang]}: ${gpus} GPU${gpus > 1 ? "s" : ""}${E.gangs.profile[gang] ? `, ${E.gangs.profile[gang]}` : ""}`];
  if (E.gangs.tenant[gang]) lines.push(`of ${E.gangs.tenant[gang]}`);
  if (run) {
    const touched = new Set(run.devices.map((device) => nodeOf[device])).size;
    lines.push(`on ${touched} node${touched > 1 ? "s" : ""} for ${span(t - run.start)} of ${span(run.end - run.start)}`);
    if (run.ended > FINISHED) lines.push(`this run ends: ${E.words.ends[run.ended]}`);
  } else {
    const wait = waits.find((one) => one.gang === gang && one.begin <= t && t < one.end);
    if (wait) lines.push(`waits for ${span(t - wait.begin)}`);
  }
  return lines.join("\n");
}

function aboutReplica(replica, t) {
  const one = E.replicas[replica], phase = phaseOf(replica, t);
  const lines = [`${one.name}: ${one.model} on ${one.gpus} ${one.gpu}`, E.words.replica[phase]];
  if (phase === SERVING || phase === DRAINING) {
    lines.push(
      `${count.running[replica].value(t)} running (at most ${one.sequences}), ${count.queued[replica].value(t)} queued`,
      `KV cache ${Math.round(100 * kvUse(replica, t))} % held`,
    );
  }
  return lines.join("\n");
}
