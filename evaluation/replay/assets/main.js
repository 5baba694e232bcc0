// The moment that is shown, and whatever moves it: clock, slider, keys, pointer.
let t = 0, playing = false, speed = 1, before = null, chosen = null, pointer = null;

const speeds = [0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000].filter(
  (x) => E.end / x > 4 && E.end / x < 4000,
);
if (!speeds.length) speeds.push(1);
const usual = speeds.find((x) => E.end / x <= 90) || speeds[speeds.length - 1];

function state() {
  const now = holders(t);
  now.on = replicasOn(now.under);
  now.phase = E.replicas.map((_, k) => phaseOf(k, t));
  return now;
}

function show() {
  const now = state();
  byId("clock").textContent = `${clock(t)} of ${clock(E.end)}`;
  byId("scrub").value = Math.round((10000 * t) / E.end);
  const last = at(eventTimes, t);
  byId("happened").textContent = last < 0 ? "" : `${clock(events[last].time)} ${events[last].text}`;
  drawTimeline(t);
  drawTiles(t, now);
  drawYard(t, now, chosen);
  if (E.gangs.name.length) drawQueue(t);
  if (E.replicas.length) drawReplicas(t, now);
  if (lives.length) drawRequests(t);
  drawDecisions(t);
  if (pointer) tip(pointer);
}

function seek(moment) {
  t = Math.min(Math.max(moment, 0), E.end);
  show();
}

function play(on) {
  if (on && t >= E.end) t = 0;
  playing = on;
  before = null;
  byId("play").textContent = on ? "Pause" : "Play";
  if (on) requestAnimationFrame(tick);
}

function tick(stamp) {
  if (!playing) return;
  if (before !== null) seek(t + (speed * Math.min(stamp - before, 250)) / 1000);
  before = stamp;
  if (t >= E.end) play(false);
  else requestAnimationFrame(tick);
}

function toEvent(way) {
  let k = at(eventTimes, t);
  if (way > 0) k += 1;
  else while (k >= 0 && eventTimes[k] >= t) k--;
  seek(k < 0 ? 0 : k < events.length ? eventTimes[k] : E.end);
}

function faster(way) {
  const k = Math.min(Math.max(speeds.indexOf(speed) + way, 0), speeds.length - 1);
  speed = speeds[k];
  byId("speed").value = String(speed);
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  readColours();
  backdrop = null;
  drawLegend();
  drawLanesLegend();
  drawPhasesLegend();
  show();
}

const keys = {
  " ": () => play(!playing),
  ArrowLeft: (event) => seek(t - E.end / (event.shiftKey ? 10 : 100)),
  ArrowRight: (event) => seek(t + E.end / (event.shiftKey ? 10 : 100)),
  "[": () => toEvent(-1),
  "]": () => toEvent(1),
  Home: () => seek(0),
  End: () => seek(E.end),
  "+": () => faster(1),
  "=": () => faster(1),
  "-": () => faster(-1),
  t: () => byId("theme").click(),
};

function tip(event) {
  const box = byId("tip"), place = event.target.getBoundingClientRect();
  const x = event.clientX - place.left, y = event.clientY - place.top;
  let text = "", gang = null;
  if (event.target === timeline) text = aboutTimeline((x / place.width) * E.end, y);
  if (event.target === strips) text = aboutStrip(x, y, t);
  if (event.target === yard) {
    const now = state(), hit = underYard(x, y);
    text = hit ? aboutYard(hit, t, now) : "";
    if (hit && hit.device !== undefined) {
      gang = now.held[hit.device];
      if (gang < 0) gang = now.on[hit.device] >= 0 ? -2 - now.on[hit.device] : null;
    }
  }
  const chip = event.target.closest && event.target.closest("[data-gang]");
  if (chip) text = aboutGang(Number(chip.dataset.gang), t);
  const row = event.target.closest && event.target.closest("[data-replica]");
  if (row) text = aboutReplica(Number(row.dataset.replica), t);
  box.hidden = !text;
  box.textContent = text;
  box.style.left = `${Math.min(event.clientX + 14, window.innerWidth - box.offsetWidth - 8)}px`;
  box.style.top = `${Math.min(event.clientY + 14, window.innerHeight - box.offsetHeight - 8)}px`;
  return gang;
}

function begin() {
  document.documentElement.classList.toggle("with-roles", E.roles.length > 0);
  byId("title").textContent = `${E.scenario} · ${E.policy}`;
  const cut = E.truncated ? " (cut short)" : "";
  const about = [E.description.replace(/\.$/, ""), `seed ${E.seed}`, `${span(E.end)}${cut}`, `${number(D.time_s.length)} decisions`];
  byId("subtitle").textContent = about.filter((text) => text).join(" · ");
  byId("queue-card").hidden = !E.gangs.name.length;
  byId("request-card").hidden = !lives.length;
  byId("replica-card").hidden = !E.replicas.length;
  byId("speed").innerHTML = speeds.map((x) => `<option value="${x}">${x}×</option>`).join("");
  speed = usual;
  byId("speed").value = String(usual);
  kindsTaken.forEach((kind) => shownKinds.add(kind));
  byId("kinds").innerHTML = kindsTaken.length < 2 ? "" : kindsTaken
    .map((kind) => `<label><input type="checkbox" checked value="${kind}"> ${E.words.decisions[kind]}</label>`)
    .join("");

  byId("play").onclick = () => play(!playing);
  byId("back").onclick = () => toEvent(-1);
  byId("next").onclick = () => toEvent(1);
  byId("speed").onchange = (event) => (speed = Number(event.target.value));
  byId("scrub").oninput = (event) => seek((event.target.value / 10000) * E.end);
  byId("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  byId("kinds").onchange = (event) => {
    shownKinds[event.target.checked ? "add" : "delete"](Number(event.target.value));
    show();
  };
  document.addEventListener("keydown", (event) => {
    const isField = event.target.tagName === "SELECT" || event.target.type === "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey || isField || !keys[event.key]) return;
    event.preventDefault();
    if (document.activeElement !== document.body) document.activeElement.blur();
    keys[event.key](event);
  });
  document.addEventListener("mousemove", (event) => {
    pointer = event;
    const gang = tip(event);
    if (gang !== chosen) {
      chosen = gang;
      show();
    }
  });
  document.addEventListener("mouseleave", () => {
    pointer = chosen = null;
    byId("tip").hidden = true;
    show();
  });
  const toPointer = (event) => event.buttons && seek(((event.clientX - timeline.getBoundingClientRect().left) / timeline.clientWidth) * E.end);
  timeline.addEventListener("mousedown", toPointer);
  timeline.addEventListener("mousemove", toPointer);
  const toHash = () => {
    const found = /[#&]t=([0-9.]+)/.exec(location.hash);
    if (found) seek(Number(found[1]));
  };
  window.addEventListener("hashchange", toHash);
  window.addEventListener("resize", () => {
    backdrop = null;
    show();
  });
  theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  toHash();
}
begin();
