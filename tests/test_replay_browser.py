"""The page of a replay in a browser: it is opened as a file, moved through, and read."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from replay_episodes import WORLDS, played

from gpuyard.envs.scene import REQUEST_PHASES
from gpuyard.evaluation.replay.page import page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--window-size=1400,1200", "--virtual-time-budget=3000"),
)
WATCH = """<script>
document.body.dataset.errors = "";
window.addEventListener("error", (event) => (document.body.dataset.errors += event.message));
</script>"""
"""Stands in front of the page's own script and keeps what goes wrong in it."""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    return found


class Texts(HTMLParser):
    """Keeps the text inside every element that has an id, and the attributes of the body."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.body = [], {}, {}

    def handle_starttag(self, tag, attrs):
        if tag == "body":
            self.body = dict(attrs)
        if tag not in ("meta", "input", "br"):
            self.open.append((tag, dict(attrs).get("id")))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for _, name in self.open:
            if name:
                self.texts[name] = self.texts.get(name, "") + data


def opened(browser, folder, episode, script="", fragment=""):
    """Open a page as a file, run a script in it, and return what is then read."""
    text = page(episode).replace("<noscript>", f"{WATCH}<noscript>")
    assert WATCH in text
    path = folder / "episode.html"
    path.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, f"{path.as_uri()}{fragment}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = Texts()
    found.feed(done.stdout)
    assert found.body["data-errors"] == ""
    return found.texts


def clock(time_s, end_s):
    """Return a time as the page says it: hundredths only where the episode is short."""
    minutes, seconds = divmod(time_s, 60)
    if end_s < 600:
        return f"{int(minutes):02d}:{seconds:05.2f} of "
    hours, minutes = divmod(int(minutes), 60)
    rest = f"{minutes:02d}:{int(seconds):02d} of "
    return rest if end_s < 3600 else f"{hours}:{rest}"


def tile(texts, words):
    """Return the number in the tile that says these words."""
    found = re.search(rf"([\d,.]+)[^\d]*{words}", texts["tiles"])
    return int(found[1].replace(",", ""))


def in_phases(episode, time_s, phases):
    stays = episode.stays
    now = (stays["begin_s"] <= time_s) & (time_s < stays["end_s"])
    names = [REQUEST_PHASES[phase] for phase in stays["phase"][now].tolist()]
    return sum(name in phases for name in names)


MIDDLE = """
const slider = document.getElementById("scrub");
slider.value = 5000;
slider.dispatchEvent(new Event("input"));
"""


@pytest.mark.parametrize("name", WORLDS)
def test_it_is_scrubbed_to_the_middle_and_read(browser, tmp_path, name):
    episode = played(name).episode
    texts = opened(browser, tmp_path, episode, MIDDLE)
    middle_s = round(episode.end_s, 4) / 2
    assert texts["title"] == f"{name if name != 'requests' else 'ask'} · chance"
    assert texts["clock"].startswith(clock(middle_s, episode.end_s))
    under = [run for run in episode.runs if run.start_s <= middle_s < run.end_s]
    services = int((episode.gangs["service"] >= 0).sum())
    if "place" in episode.scenario.decisions:
        held = sum(int(episode.gangs["gpus"][run.gang]) for run in under)
        assert texts["tiles"].startswith(f"{held} of ")
        assert tile(texts, " runningjobs") == sum(run.gang >= services for run in under)
    if "route" in episode.scenario.decisions:
        flight = in_phases(episode, middle_s, ("queue", "prefill", "transfer", "decode"))
        assert tile(texts, " in flight") == flight
        assert tile(texts, " waiting" + "requests") == in_phases(
            episode, middle_s, ("queue", "router")
        )
        finished = (episode.tables["requests"]["finish_s"] <= middle_s).sum()
        assert f"requests; {finished} of " in texts["tiles"]
    assert "candidate taken" in texts["decisions"]


def test_keys_move_and_play(browser, tmp_path):
    episode = played("services").episode
    script = """
    const press = (key, more) =>
      document.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, ...more}));
    const note = (text) => { document.title += "|" + text; };
    document.title = "";
    press("End"); note(t === E.end);
    press("Home"); note(t === 0);
    press("ArrowRight"); note(Math.round(10000 * t / E.end));
    press("ArrowRight", {shiftKey: true}); note(Math.round(10000 * t / E.end));
    press("]"); note(eventTimes.includes(t));
    const speedBefore = speed; press("+"); note(speed > speedBefore);
    const shown = document.documentElement.dataset.theme; press("t");
    note(shown !== document.documentElement.dataset.theme);
    const then = t, button = document.getElementById("play");
    press(" "); note(button.textContent);
    setTimeout(() => { press(" "); note(t > then); note(button.textContent); }, 700);
    """
    script += "setTimeout(() => { byId('happened').textContent = document.title; }, 1200);"
    texts = opened(browser, tmp_path, episode, script)
    said = texts["happened"].strip("|").split("|")
    assert said == ["true", "true", "100", "1100", "true", "true", "true", "Pause", "true", "Play"]


def test_an_address_opens_a_moment_and_pointing_tells_what_is_there(browser, tmp_path):
    episode = played("services").episode
    run = max(episode.runs, key=lambda run: run.end_s - run.start_s)
    moment_s = round((run.start_s + run.end_s) / 2, 3)
    script = f"""
    const device = {int(run.devices[0])}, box = boxes.nodes.find((b) => b.node === nodeOf[device]);
    const [x, y] = placeOf(box, device - box.node.first), place = yard.getBoundingClientRect();
    const there = {{clientX: place.left + x + 3, clientY: place.top + y + 3, bubbles: true}};
    yard.dispatchEvent(new MouseEvent("mousemove", there));
    """
    texts = opened(browser, tmp_path, episode, script, f"#t={moment_s}")
    services = int((episode.gangs["service"] >= 0).sum())
    names = [episode.scenario.services[s].name for s in episode.gangs["service"][:services]]
    name = names[run.gang] if run.gang < services else f"job {run.gang - services}:"
    assert name in texts["tip"] and "memory" in texts["tip"]
