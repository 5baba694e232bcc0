"""``gpuyard render``: what it writes, what it says, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_cli import fails

from gpuyard.cli import main

ROOT = Path(__file__).parents[1]
PNG = b"\x89PNG\r\n\x1a\n"


def test_an_episode_is_written_as_page_trace_and_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    paths = [tmp_path / "new" / f"episode{suffix}" for suffix in (".html", ".json", ".png")]
    command = ["render", "routing-burst", "--policy", "routing/least-requests", "--seed", "3"]
    assert main([*command, "--out", *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1].rstrip(":") for line in lines] == [str(path) for path in paths]
    page, trace, picture = (path.read_bytes() for path in paths)
    assert page.startswith(b"<!doctype html>") and b"routing-burst" in page
    about = json.loads(trace)["otherData"]
    assert about == {"scenario": "routing-burst", "policy": "routing/least-requests", "seed": 3}
    assert picture.startswith(PNG)

    said = fails(capsys, *command, "--out", str(paths[0]))
    assert str(paths[0]) in said and "--force" in said
    assert paths[0].read_bytes() == page
    assert main([*command, "--force", "--out", str(paths[0]), str(paths[2])]) == 0
    assert paths[0].read_bytes() == page and paths[2].read_bytes() == picture


def test_an_episode_is_written_as_a_moving_picture(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    from PIL import Image

    from gpuyard.commands import film

    monkeypatch.setattr(film, "FRAMES", 3)
    path = tmp_path / "episode.gif"
    command = ["render", "routing-burst", "--policy", "routing/least-requests"]
    assert main([*command, "--out", str(path)]) == 0
    with Image.open(path) as picture:
        assert picture.n_frames == 4  # at 0, 1/3 and 2/3 of the episode, and at its end
        assert picture.size[0] % 2 == picture.size[1] % 2 == 0
    assert "a moving picture" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("episode.bmp", "suffix must be one of .html"),
        ("episode", "suffix must be one of .html"),
        ("a.html a.html", "names a file twice"),
    ],
)
def test_files_of_no_known_kind_are_refused_before_anything_is_played(capsys, out, says):
    command = ["render", "routing-default", "--policy", "routing/random", "--out", *out.split()]
    assert says in fails(capsys, *command)


def test_a_policy_for_other_decisions_is_refused(tmp_path, capsys):
    path = tmp_path / "x.html"
    said = fails(capsys, "render", "routing-default", "--policy", "gang/fifo", "--out", str(path))
    assert "decides place" in said and not path.exists()


def test_a_picture_without_matplotlib_says_what_to_install(tmp_path):
    arguments = ["render", "routing-burst", "--policy", "routing/random"]
    arguments += ["--out", str(tmp_path / "x.png")]
    code = (
        "import sys\nsys.modules['matplotlib'] = None\n"
        f"from gpuyard.cli import main\nsys.exit(main({arguments!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "install gpuyard[plot]" in done.stderr


def test_frames_of_a_film_lose_nothing_where_pictures_grow():
    from gpuyard.commands.film import _even

    small, large = np.zeros((3, 4, 3), np.uint8), np.ones((5, 2, 3), np.uint8)
    first, second = _even([small, large])
    assert first.shape == second.shape == (6, 4, 3)
    assert (first[:3] == 0).all() and (first[3:] == 255).all()
    assert (second[:5, :2] == 1).all() and (second[:, 2:] == 255).all()
