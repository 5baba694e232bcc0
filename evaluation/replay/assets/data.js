// The episode as it was recorded, and what holds at a moment. Times are seconds.
const E = JSON.parse(document.getElementById("episode").textContent);
const [SERVING, OFF, QUEUED, STARTING, DRAINING, TURNING] = E.words.replica.keys();
const [ROUTER, QUEUE, PREFILL, TRANSFER, DECODE] = E.words.request.keys();
const [OPEN, FINISHED, PREEMPTED] = E.words.ends.keys();
const FREE = -1, DOWN = -2;

const nodes = E.groups.flatMap((group) => group.nodes);
const numDevices = Math.max(0, ...nodes.map((node) => node.first + node.gpus));
const numGpus = nodes.reduce((sum, node) => sum + node.gpus, 0);
const nodeOf = new Array(numDevices);
for (const node of nodes) for (let k = 0; k < node.gpus; k++) nodeOf[node.first + k] = node;

const runs = E.runs.map(([gang, start, end, ended, ...spans]) => {
  const devices = [];
  for (let k = 0; k < spans.length; k += 2) for (let d = 0; d < spans[k + 1]; d++) devices.push(spans[k] + d);
  return { gang, start, end, ended, devices };
});
const phases = E.phases.map(([replica, phase, begin, end]) => ({ replica, phase, begin, end }));
const outages = E.outages.map(([node, begin, end]) => ({ node, begin, end }));
const lives = E.requests.life;
const runsOf = E.gangs.name.map(() => []);
for (const run of runs) runsOf[run.gang].push(run);
const phasesOf = E.replicas.map(() => []);
for (const phase of phases) phasesOf[phase.replica].push(phase);

// The last index whose value is at most x, -1 if there is none; values rise.
function at(values, x) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= x) low = middle + 1; else high = middle;
  }
  return low - 1;
}

// A number that changes at moments: steps are [time, change] in any order.
class Steps {
  constructor() { this.changes = []; }
  add(time, change) { this.changes.push([time, change]); }
  span(begin, end, amount = 1) { this.add(begin, amount); this.add(end, -amount); }
  done() {
    this.changes.sort((a, b) => a[0] - b[0]);
    this.times = []; this.values = [];
    let sum = 0;
    for (const [time, change] of this.changes) {
      sum += change;
      if (this.times[this.times.length - 1] === time) this.values[this.values.length - 1] = sum;
      else { this.times.push(time); this.values.push(sum); }
    }
    this.changes = [];
    return this;
  }
  value(t) { const k = at(this.times, t); return k < 0 ? 0 : this.values[k]; }
  get most() { return this.values.reduce((a, b) => Math.max(a, b), 0); }
}

const count = {
  running: E.replicas.map(() => new Steps()), // requests in a replica's batch
  queued: E.replicas.map(() => new Steps()),
  router: new Steps(), transfer: new Steps(), flight: new Steps(), arrived: new Steps(), finished: new Steps(),
  first: new Steps(), ttft: new Steps(), met: new Steps(),
  jobs: new Steps(), pending: new Steps(), pendingGpus: new Steps(), jobsDone: new Steps(),
  held: E.roles.map(() => new Steps()), heldByJobs: new Steps(), down: new Steps(),
};

lives.forEach((life, request) => {
  if (!life.length) return;
  const end = life[life.length - 1], first = E.requests.first[request];
  count.arrived.add(life[0], 1);
  for (let k = 0; k + 3 < life.length; k += 3) {
    const [begin, phase, replica, until] = life.slice(k, k + 4);
    if (phase === ROUTER) count.router.span(begin, until);
    else count.flight.span(begin, until);
    if (phase === TRANSFER) count.transfer.span(begin, until);
    else if (replica >= 0) (phase === QUEUE ? count.queued : count.running)[replica].span(begin, until);
  }
  if (first === null) return;
  count.first.add(first, 1);
  count.ttft.add(first, first - life[0]);
  if (E.requests.finish[request] === null) return;
  const more = E.requests.output[request] - 1;
  count.finished.add(end, 1);
  if (first - life[0] <= E.slo[0] && (more < 1 || (end - first) / more <= E.slo[1])) count.met.add(end, 1);
});

const isJob = (gang) => gang >= E.gangs.services;
const waits = E.waits.map(([gang, begin, end]) => ({ gang, begin, end }));
for (const { gang, begin, end } of waits) {
  count.pending.span(begin, end);
  count.pendingGpus.span(begin, end, E.gangs.gpus[gang]);
}
for (const run of runs) {
  if (isJob(run.gang)) {
    if (run.ended === FINISHED) count.jobsDone.add(run.end, 1);
    count.jobs.span(run.start, run.end);
    count.heldByJobs.span(run.start, run.end, E.gangs.gpus[run.gang]);
    continue;
  }
  E.replicas.forEach((replica) => {
    if (replica.gang === run.gang) count.held[replica.role].span(run.start, run.end, replica.gpus);
  });
}
for (const { node, begin, end } of outages) count.down.span(begin, end, nodes.find((n) => n.node === node).gpus);
for (const steps of Object.values(count)) for (const one of [steps].flat()) one.done();

// Samples: rows of percent.
function unrolled(changes, width) {
  const rows = new Uint8Array(changes.length * width);
  changes.forEach((row, k) => {
    if (k) rows.copyWithin(k * width, (k - 1) * width, k * width);
    for (let i = 0; i < row.length; i += 2) rows[k * width + row[i]] = row[i + 1];
  });
  return (t, i) => rows[Math.max(0, at(E.samples.times, t)) * width + i] / 100;
}
const links = [...E.groups.flatMap((g) => [...g.uplinks, ...g.nodes.flatMap((n) => (n.links ? [n.links] : []))]), ...E.core.flat()];
const numLinks = Math.max(-1, ...links.flat()) + 1;
const linkLoad = unrolled(E.samples.links, numLinks);
const kvSample = unrolled(E.samples.kv, E.replicas.length);
const busier = ([up, down], t) => Math.max(linkLoad(t, up), linkLoad(t, down));

const phaseOf = (replica, t) => {
  const found = phasesOf[replica].find((one) => one.begin <= t && t < one.end);
  if (found) return found.phase;
  const last = phasesOf[replica][phasesOf[replica].length - 1];
  return last && t >= E.end && last.end >= E.end ? last.phase : OFF;
};
// Share of a replica's KV cache that is held: as sampled, and less if fewer requests run since then.
function kvUse(replica, t) {
  const sampled = E.samples.times[Math.max(0, at(E.samples.times, t))];
  const then = count.running[replica].value(sampled), now = count.running[replica].value(t);
  return kvSample(t, replica) * (then > now ? now / then : 1);
}

// Who holds each device: a gang, FREE or DOWN; and the runs under way.
function holders(t) {
  const held = new Int32Array(numDevices).fill(FREE), under = [];
  for (const run of runs) {
    if (run.start > t) break;
    if (t < run.end || (run.ended === OPEN && t >= run.end)) {
      under.push(run);
      for (const device of run.devices) held[device] = run.gang;
    }
  }
  for (const { node, begin, end } of outages) {
    if (begin <= t && t < end) {
      const place = nodes.find((n) => n.node === node);
      held.fill(DOWN, place.first, place.first + place.gpus);
    }
  }
  return { held, under };
}

// Which replica stands on a device, or -1.
function replicasOn(under) {
  const on = new Int32Array(numDevices).fill(-1);
  const devicesOf = new Map(under.map((run) => [run.gang, run.devices]));
  E.replicas.forEach((replica, number) => {
    const devices = devicesOf.get(replica.gang);
    for (let k = 0; k < replica.gpus; k++) {
      if (replica.gang < 0) on[replica.first + k] = number;
      else if (devices && devices.length) on[devices[replica.first + k]] = number;
    }
  });
  return on;
}

// What is worth a mark on the time line.
const events = [];
for (const run of runs) {
  if (run.ended === PREEMPTED) events.push({ time: run.end, what: "preempted", text: `${E.gangs.name[run.gang]} is preempted` });
}
for (const { node, begin, end } of outages) {
  events.push({ time: begin, what: "failed", text: `node ${node} fails` });
  if (end < E.end) events.push({ time: end, what: "repaired", text: `node ${node} is repaired` });
}
for (const { replica, phase, begin } of phases) {
  const name = E.replicas[replica].name;
  if (E.replicas[replica].gang < 0) continue;
  if (phase === QUEUED) events.push({ time: begin, what: "asked", text: `${name} is asked for` });
  if (phase === STARTING) events.push({ time: begin, what: "starting", text: `${name} gets its GPUs and starts` });
  if (phase === SERVING) events.push({ time: begin, what: "serving", text: `${name} serves` });
  if (phase === DRAINING) events.push({ time: begin, what: "draining", text: `${name} is taken away` });
}
const marks = events.slice();
for (const run of runs) {
  if (!isJob(run.gang)) continue;
  events.push({ time: run.start, what: "start", text: `${E.gangs.name[run.gang]} starts on ${E.gangs.gpus[run.gang]} GPUs` });
  if (run.ended === FINISHED) events.push({ time: run.end, what: "end", text: `${E.gangs.name[run.gang]} finishes` });
}
events.sort((a, b) => a.time - b.time);
const eventTimes = events.map((event) => event.time);

const number = (x) => Math.round(x).toLocaleString("en");
function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(1)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
function clock(t) {
  const two = (x) => String(Math.floor(x)).padStart(2, "0");
  const rest = E.end < 600 ? (t % 60).toFixed(2).padStart(5, "0") : two(t % 60);
  return E.end < 3600 ? `${two(t / 60)}:${rest}` : `${Math.floor(t / 3600)}:${two((t / 60) % 60)}:${rest}`;
}
