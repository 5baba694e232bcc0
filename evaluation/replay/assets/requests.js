// The last requests that have arrived, a line each, and the phases that they have gone through.
const strips = document.getElementById("strips");
const LINES = 120, LINE = 2.5, AXIS = 16;
const PHASE_WORDS = ["at the router", "queued at a replica", "prefill", "KV transfer", "decode"];
const phaseColour = (phase) => colours[`phase-${E.words.request[phase]}`];
const arrivals = lives.filter((life) => life.length).map((life) => life[0]);
// A little more than the time in which so many arrive, as a round number.
const windowS = (() => {
  const usual = (1.2 * LINES * ((arrivals[arrivals.length - 1] || 1) - (arrivals[0] || 0))) / Math.max(arrivals.length, 1);
  return [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800].find((s) => s >= usual) || 3600;
})();

function drawRequests(t) {
  const pen = prepared(strips, LINES * LINE + AXIS), width = strips.clientWidth;
  const newest = at(arrivals, t), xOf = (time) => width * (1 - (t - time) / windowS);
  for (let request = Math.max(0, newest - LINES + 1); request <= newest; request++) {
    const life = lives[request], y = (request % LINES) * LINE;
    for (let k = 0; k + 3 < life.length; k += 3) {
      const from = Math.max(0, xOf(life[k])), to = xOf(Math.min(life[k + 3], t));
      if (to <= from || life[k] > t) continue;
      pen.fillStyle = phaseColour(life[k + 1]);
      pen.fillRect(from, y, Math.max(to - from, 0.7), LINE - 0.6);
    }
  }
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = colours.soft;
  pen.textBaseline = "alphabetic";
  pen.textAlign = "left";
  pen.fillText(`${span(windowS).replace(".0", "")} ago`, 0, LINES * LINE + AXIS - 3);
  pen.textAlign = "right";
  pen.fillText("now", width, LINES * LINE + AXIS - 3);
  byId("request-sum").textContent = `the last ${LINES} to arrive, a line each`;
}

function aboutStrip(x, y, t) {
  const newest = at(arrivals, t), line = Math.floor(y / LINE);
  const request = newest - ((((newest - line) % LINES) + LINES) % LINES), life = lives[request];
  if (!life || line >= LINES) return "";
  const lines = [`request ${request}: ${number(E.requests.prompt[request])} prompt, ${number(E.requests.output[request])} output tokens`];
  for (let k = 0; k + 3 < life.length; k += 3) {
    if (life[k] > t) break;
    const where = life[k + 2] >= 0 ? `, ${E.replicas[life[k + 2]].name}` : "";
    lines.push(`${PHASE_WORDS[life[k + 1]]} ${span(Math.min(life[k + 3], t) - life[k])}${where}`);
  }
  return lines.join("\n");
}

function drawPhasesLegend() {
  const seen = new Set(lives.flatMap((life) => life.filter((_, k) => k % 3 === 1)));
  byId("phases").innerHTML = PHASE_WORDS.map((word, phase) =>
    seen.has(phase) ? `<span>${dot(phaseColour(phase))}${word}</span>` : "",
  ).join("");
}
