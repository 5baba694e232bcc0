// The whole episode in lanes, one below the other, with the moment shown.
const timeline = document.getElementById("timeline");
const LANE = 46, LANE_GAP = 8, MARKS = 16;
let backdrop = null;

function lanes() {
  const found = [];
  if (E.gangs.name.length) {
    const parts = E.roles.map((name, role) => ({ steps: count.held[role], colour: roleColour(role), name }));
    parts.push({ steps: count.heldByJobs, colour: E.roles.length ? colours["job-1"] : colours.accent, name: "jobs" });
    parts.push({ steps: count.down, colour: colours.down, name: "failed" });
    found.push({ name: "GPUs held", parts: parts.filter((part) => part.steps.most > 0), most: numGpus });
    const most = Math.max(1, count.pendingGpus.most);
    found.push({ name: "GPUs waited for", parts: [{ steps: count.pendingGpus, colour: colours.waiting, name: "" }], most });
  }
  if (lives.length) {
    const most = Math.max(1, count.flight.most, count.router.most);
    const parts = [{ steps: count.flight, colour: E.roles.length ? colours.soft : roleColour(0), name: "at a replica" }];
    found.push({ name: "requests at replicas", parts, most });
    found.push({ name: "requests at the router", parts: [{ steps: count.router, colour: colours.waiting, name: "" }], most: Math.max(1, count.router.most) });
  }
  return found.filter((lane) => lane.parts.some((part) => part.steps.most > 0));
}
const MARK = {
  failed: ["bad", "node fails"], preempted: ["waiting", "preemption"], repaired: ["soft", "repaired"],
  asked: ["waiting", "replica asked for"], serving: ["accent", "replica serves"], draining: ["soft", "replica taken away"],
};

// Mean of a step function over each pixel's stretch of time would hide peaks: the highest value is drawn.
function peaks(steps, width) {
  const found = new Float64Array(width);
  for (let x = 0; x < width; x++) {
    const from = (x / width) * E.end, to = ((x + 1) / width) * E.end;
    let k = at(steps.times, from), most = k < 0 ? 0 : steps.values[k];
    for (k++; k < steps.times.length && steps.times[k] < to; k++) most = Math.max(most, steps.values[k]);
    found[x] = most;
  }
  return found;
}

function drawBackdrop(width, height) {
  const canvas = document.createElement("canvas"), ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif";
  lanes().forEach((lane, row) => {
    const top = row * (LANE + LANE_GAP), bottom = top + LANE, below = new Float64Array(Math.floor(width));
    for (const part of lane.parts) {
      pen.fillStyle = part.colour;
      peaks(part.steps, below.length).forEach((value, x) => {
        const from = below[x], to = Math.min(from + value, lane.most);
        below[x] = to;
        pen.fillRect(x, bottom - (to / lane.most) * (LANE - 13), 1, ((to - from) / lane.most) * (LANE - 13));
      });
    }
    pen.fillStyle = colours.soft;
    pen.fillText(`${lane.name}, at most ${number(lane.most)}`, 2, top + 9);
    pen.fillStyle = colours.line;
    pen.fillRect(0, bottom, width, 1);
  });
  const top = lanes().length * (LANE + LANE_GAP);
  for (const { time, what } of marks) {
    if (!MARK[what]) continue;
    const x = (time / E.end) * width;
    pen.fillStyle = colours[MARK[what][0]];
    pen.beginPath();
    if (what === "serving") pen.arc(x, top + 7, 3, 0, 7);
    else if (what === "failed") { pen.moveTo(x - 4, top + 3); pen.lineTo(x + 4, top + 3); pen.lineTo(x, top + 11); }
    else if (what === "preempted") { pen.moveTo(x - 4, top + 11); pen.lineTo(x + 4, top + 11); pen.lineTo(x, top + 3); }
    else pen.rect(x - 1, top + 2, 2, 10);
    pen.fill();
  }
  return canvas;
}

function drawTimeline(t) {
  const rows = lanes().length, height = rows * (LANE + LANE_GAP) + (marks.length ? MARKS : 0);
  const pen = prepared(timeline, height), width = timeline.clientWidth;
  if (!backdrop || backdrop.key !== `${width} ${document.documentElement.dataset.theme}`) {
    backdrop = { key: `${width} ${document.documentElement.dataset.theme}`, canvas: drawBackdrop(width, height) };
  }
  pen.drawImage(backdrop.canvas, 0, 0, width, height);
  const x = (t / E.end) * width;
  pen.fillStyle = colours.ink;
  pen.fillRect(Math.min(x, width - 1.5), 0, 1.5, height);
}

function aboutTimeline(t, y) {
  const row = Math.floor(y / (LANE + LANE_GAP)), lane = lanes()[row], near = E.end / 150;
  if (lane) {
    const parts = lane.parts.map((part) => `${part.name || "now"}: ${number(part.steps.value(t))}`);
    return `${clock(t)}  ${lane.name}\n${parts.join("\n")}`;
  }
  const close = marks.filter((mark) => MARK[mark.what] && Math.abs(mark.time - t) < near).slice(0, 8);
  return [clock(t), ...close.map((mark) => `${clock(mark.time)} ${mark.text}`)].join("\n");
}

function drawLanesLegend() {
  const kinds = [...new Set(marks.map((mark) => mark.what))].filter((what) => MARK[what]);
  const signs = { serving: "●", failed: "▼", preempted: "▲" };
  byId("lanes").innerHTML = kinds
    .map((what) => `<span><span style="color:${colours[MARK[what][0]]}">${signs[what] || "▮"}</span> ${MARK[what][1]}</span>`)
    .join("");
}
