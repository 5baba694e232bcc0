"""The page of a replay: what stands in it, that it needs nothing else, that it is repeatable."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from replay_episodes import WORLDS, play, played

from gpuyard.evaluation.replay import document
from gpuyard.evaluation.replay.page import SCRIPTS, page
from gpuyard.evaluation.replay.trace import trace

VOID = {"meta", "input", "br", "link", "img"}


class Reader(HTMLParser):
    """Checks that elements are closed in order, and keeps attributes and what scripts hold."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.texts = [], [], {}

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("id", "")))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data


def read(episode):
    reader = Reader()
    reader.feed(page(episode))
    reader.close()
    assert not reader.open
    return reader


def data_of(episode):
    return json.loads(read(episode).texts["script", "episode"])


@pytest.mark.parametrize("name", WORLDS)
def test_the_page_is_whole_and_needs_nothing_else(name):
    episode = played(name).episode
    reader = read(episode)
    assert not [value for key, value in reader.attributes if key in ("src", "href", "action")]
    text = page(episode)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert "{{" not in text and "}}" not in text.split('id="episode"')[0]


@pytest.mark.parametrize("name", WORLDS)
def test_what_stands_in_it_is_the_recorded_episode(name):
    episode = played(name).episode
    data = data_of(episode)
    assert data == json.loads(json.dumps(document.document(episode)))
    assert len(data["decisions"]["time_s"]) == len(episode.decisions)
    services = data["gangs"].get("services", 0)
    for run, (gang, start_s, end_s, ended, *spans) in zip(episode.runs, data["runs"], strict=True):
        assert (gang, ended) == (run.gang, run.ended)
        assert (start_s, end_s) == pytest.approx((run.start_s, run.end_s), abs=1e-4)
        pairs = zip(spans[::2], spans[1::2], strict=True)
        assert [g for first, n in pairs for g in range(first, first + n)] == run.devices.tolist()
    if "jobs" in episode.tables:
        jobs = episode.tables["jobs"]
        first_s = {gang: start_s for gang, start_s, *_ in reversed(data["runs"])}
        last_s = {gang: end_s for gang, _, end_s, *_ in data["runs"]}
        for job in jobs["job"].tolist():
            assert first_s[services + job] == pytest.approx(jobs["start_s"][job], abs=1e-4)
            assert last_s[services + job] == pytest.approx(jobs["finish_s"][job], abs=1e-4)
    if "requests" in episode.tables:
        table, lives = episode.tables["requests"], data["requests"]["life"]
        assert len(lives) == len(table["arrival_s"])  # every request once
        assert [life[0] for life in lives] == pytest.approx(table["arrival_s"].tolist(), abs=1e-4)
        assert [life[-1] for life in lives] == pytest.approx(table["finish_s"].tolist(), abs=1e-4)
        assert all(len(life) % 3 == 1 and life[::3] == sorted(life[::3]) for life in lives)


@pytest.mark.parametrize("name", WORLDS)
def test_samples_are_found_again_in_their_changes(name):
    episode = played(name).episode
    for key, table in (("links", episode.samples.link_load), ("kv", episode.samples.kv)):
        row = np.zeros(table.shape[1], int)
        changes = data_of(episode)["samples"][key]
        for expected, changed in zip(table, changes, strict=True):
            row[changed[::2]] = changed[1::2]
            assert (row == expected).all()


@pytest.mark.parametrize("name", ("gangs", "services"))
def test_every_device_and_link_has_its_place(name):
    scenario = played(name).episode.scenario
    data = data_of(played(name).episode)
    nodes = [node for group in data["groups"] for node in group["nodes"]]
    gpus = [node["first"] + slot for node in nodes for slot in range(node["gpus"])]
    assert sorted(gpus) == np.flatnonzero(scenario.cluster.fabric.gpu_switch >= 0).tolist()
    links = [pair for group in data["groups"] for pair in group["uplinks"]]
    links += [node["links"] for node in nodes] + [pair for pod in data["core"] for pair in pod]
    assert sorted(np.ravel(links)) == list(range(len(scenario.cluster.fabric.capacity)))


def test_the_same_seed_gives_the_same_bytes():
    again = play(WORLDS["services"](), seed=1).episode
    assert page(again) == page(played("services").episode)
    assert trace(again) == trace(played("services").episode)
    other = play(WORLDS["services"](), seed=2).episode
    assert page(other) != page(again)


def test_no_text_of_a_scenario_ends_the_script_that_it_stands_in():
    from dataclasses import replace

    episode = played("requests").episode
    sly = replace(episode.scenario, description="</script><b>bold", name="a & <b>")
    assert data_of(replace(episode, scenario=sly))["description"] == "</script><b>bold"


def test_every_script_is_in_the_page():
    from importlib.resources import files

    folder = files("gpuyard.evaluation.replay") / "assets"
    assert {item.name for item in folder.iterdir() if item.name.endswith(".js")} == set(SCRIPTS)
