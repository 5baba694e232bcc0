// Words and numbers at a moment: tiles, queue, replicas, decisions.
const byId = (id) => document.getElementById(id);
const escaped = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const dot = (colour) => `<i class="dot" style="background:${colour}"></i>`;

function drawTiles(t, now) {
  const tiles = [];
  const held = now.under.reduce((sum, run) => sum + E.gangs.gpus[run.gang], 0);
  if (E.gangs.name.length) {
    const down = count.down.value(t);
    tiles.push([`${number(held)} of ${number(numGpus)}`, `GPUs held${down ? `, ${down} failed` : ""}`]);
    const jobs = E.gangs.name.length - E.gangs.services;
    tiles.push([`${count.jobs.value(t)} running`, `jobs; ${number(count.jobsDone.value(t))} of ${number(jobs)} finished`]);
    tiles.push([`${count.pending.value(t)} waiting`, `for ${number(count.pendingGpus.value(t))} GPUs`]);
  }
  if (E.roles.length) {
    const how = E.words.replica.map(() => 0);
    now.phase.forEach((phase) => how[phase]++);
    tiles.push([`${how[SERVING]} serving`, `replicas; ${how[QUEUED] + how[STARTING] + how[TURNING]} to come, ${how[DRAINING]} draining`]);
  }
  if (lives.length) {
    const waiting = count.router.value(t) + count.queued.reduce((sum, steps) => sum + steps.value(t), 0);
    tiles.push([`${number(count.flight.value(t))} in flight`, `requests; ${number(count.finished.value(t))} of ${number(lives.length)} finished`]);
    tiles.push([`${number(waiting)} waiting`, `requests; ${number(count.router.value(t))} of them at the router`]);
    const first = count.first.value(t), done = count.finished.value(t);
    tiles.push([first ? span(count.ttft.value(t) / first) : "–", "mean time to first token so far"]);
    tiles.push([done ? `${((100 * count.met.value(t)) / done).toFixed(1)} %` : "–", "within both objectives so far"]);
  }
  byId("tiles").innerHTML = tiles.map(([big, small]) => `<div class="tile"><b>${big}</b><span>${small}</span></div>`).join("");
}

const MOST_CHIPS = 40;
function drawQueue(t) {
  const pending = waits.filter((wait) => wait.begin <= t && t < wait.end);
  const chips = pending.slice(0, MOST_CHIPS).map(({ gang, replica, gpus, begin }) => {
    const width = 44 + 14 * Math.log2(gpus + 1), isReplica = replica >= 0;
    const name = isReplica ? E.replicas[replica].name : E.gangs.name[gang];
    const about = isReplica ? `data-replica="${replica}"` : `data-gang="${gang}"`;
    return `<span class="chip" ${about} style="background:${gangColour(gang)};color:${inkOn(gangColour(gang))};min-width:${width}px">${escaped(name)} · ${gpus} GPUs · ${span(t - begin)}</span>`;
  });
  if (pending.length > MOST_CHIPS) chips.push(`<span class="none">and ${pending.length - MOST_CHIPS} more</span>`);
  byId("queue").innerHTML = chips.join("") || '<span class="none">nobody waits for devices</span>';
  byId("queue-sum").textContent = pending.length ? "in order: name, size, waiting for" : "";
}

const MOST_ROWS = 40;
const mostQueued = Math.max(8, ...count.queued.map((steps) => steps.most));
function drawReplicas(t, now) {
  const router = count.router.value(t), moving = count.transfer.value(t);
  const words = [`At the router: <b>${number(router)}</b>`];
  if (E.roles.some((name) => name.endsWith("decode"))) words.push(`KV caches on their way: <b>${number(moving)}</b>`);
  byId("router").innerHTML = words.join(" · ");
  const shown = E.replicas.map((_, k) => k).filter((k) => now.phase[k] !== OFF);
  const rows = shown.slice(0, MOST_ROWS).map((k) => {
    const one = E.replicas[k], colour = roleColour(one.role), kv = kvUse(k, t);
    const running = count.running[k].value(t), queued = count.queued[k].value(t);
    const cells = now.phase[k] === SERVING || now.phase[k] === DRAINING
      ? `<td style="width:26%"><div class="bar"><i style="width:${100 * kv}%;background:${colour}"></i></div></td><td class="num">${Math.round(100 * kv)} %</td>` +
        `<td class="num">${running}</td><td class="num">${queued}</td><td style="width:14%"><div class="bar"><i style="width:${(100 * queued) / mostQueued}%;background:${colours.waiting}"></i></div></td>`
      : '<td colspan="5"></td>';
    return `<tr data-replica="${k}"><td>${dot(colour)}${escaped(one.name)}</td><td class="soft">${E.words.replica[now.phase[k]]}</td>${cells}</tr>`;
  });
  const more = shown.length > MOST_ROWS ? `<tr><td class="soft" colspan="7">and ${shown.length - MOST_ROWS} more</td></tr>` : "";
  const head = '<tr><th>replica</th><th>phase</th><th colspan="2">KV cache held</th><th>running</th><th colspan="2">queued</th></tr>';
  byId("replicas").innerHTML = rows.length ? head + rows.join("") + more : '<tr><td class="none">no replica is asked for</td></tr>';
}

const D = E.decisions, shownKinds = new Set();
const kindsTaken = [...new Set(D.kind)].sort();
function decisionText(k) {
  const verb = E.words.verbs[D.verb[k]], subject = D.subject[k], choice = D.choice[k];
  const gang = subject >= 0 ? E.gangs.name[subject] : "";
  switch (verb) {
    case "sent": return `request ${subject} (${number(E.requests.prompt[subject])} tokens) → ${choice < 0 ? "nobody" : E.replicas[choice].name}`;
    case "held": return `request ${subject} is held back`;
    case "started": return `${gang} starts on ${placeWords(subject, D.time_s[k])}, ${choice < 0 ? "own plan" : `plan: ${E.words.plans[choice]}`}`;
    case "preempted": return `${gang} is preempted`;
    case "waited": return "wait for the next event";
    case "added": return `one more ${E.roles[subject]} replica`;
    case "took": return `one ${E.roles[subject]} replica less`;
    case "turned": return `one ${E.roles[choice]} replica turns into one of ${E.roles[subject]}`;
    case "chose": return `a request is to leave ${E.replicas[subject].name}`;
    case "moved": return `a request moves from ${E.replicas[subject].name} to ${E.replicas[choice].name}`;
    default: return E.words.decisions[D.kind[k]] === "migrate" ? "nothing moves" : "keep the replicas there are";
  }
}

function placeWords(gang, time) {
  const run = runsOf[gang].find((one) => Math.abs(one.start - time) < 1e-3), gpus = E.gangs.gpus[gang];
  const touched = run ? new Set(run.devices.map((device) => nodeOf[device])).size : 0;
  return `${gpus} GPU${gpus > 1 ? "s" : ""}${touched ? ` of ${touched} node${touched > 1 ? "s" : ""}` : ""}`;
}

const DECISIONS_SHOWN = 12;
function drawDecisions(t) {
  const rows = [];
  for (let k = at(D.time_s, t), steps = 0; k >= 0 && rows.length < DECISIONS_SHOWN && steps < 50000; k--, steps++) {
    if (!shownKinds.has(D.kind[k])) continue;
    const refused = D.refused[k] ? ' <span class="refused">(its choice was infeasible)</span>' : "";
    rows.push(
      `<tr class="${rows.length ? "" : "now"}"><td class="soft">${clock(D.time_s[k])}</td><td class="soft">${E.words.decisions[D.kind[k]]}</td>` +
      `<td class="wide">${escaped(decisionText(k))}${refused}</td><td class="num soft">${number(D.options[k])}</td></tr>`,
    );
  }
  const head = '<tr><th>time</th><th>kind</th><th>candidate taken</th><th class="num">of feasible</th></tr>';
  byId("decisions").innerHTML = rows.length ? head + rows.join("") : '<tr><td class="none">none yet</td></tr>';
}

function drawLegend() {
  const words = [];
  const box = (colour, text) => words.push(`<span>${dot(colour)}${escaped(text)}</span>`);
  E.roles.forEach((name, role) => box(roleColour(role), `${name} replica`));
  if (!E.roles.length && E.replicas.length) box(roleColour(0), "replica: weights and KV cache");
  if (E.gangs.name.length > E.gangs.services) {
    const swatches = [0, 1, 2, 3].map((k) => `<i style="background:${colours[`job-${k}`]};margin-right:1px"></i>`).join("");
    words.push(`<span>${swatches} jobs, by number</span>`);
  }
  if (E.gangs.name.length) {
    box(colours.free, "free");
    if (outages.length) box(colours.down, "failed node");
  }
  words.push("<span>height: memory in use</span>");
  if (E.roles.length) words.push("<span>/// starting &nbsp; \\\\\\ draining</span>");
  if (numLinks) {
    const ramp = `linear-gradient(90deg,${[0, 0.25, 0.5, 0.75, 1].map(loadColour).join(",")})`;
    words.push(`<span>links <i style="width:70px;background:${ramp};margin:0 5px"></i>idle to full: uplinks above, NICs beside each node</span>`);
  }
  byId("legend").innerHTML = words.join("");
}
