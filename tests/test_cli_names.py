"""``gpuyard list``, ``show``, ``new`` and ``check``: names, what they stand for, a first file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpuyard.cli import main
from gpuyard.commands import new
from gpuyard.commands.listing import KINDS

ROOT = Path(__file__).parents[1]


def listed(capsys, *arguments):
    """Return the names that are listed, which begin a line."""
    assert main(["list", *arguments]) == 0
    return re.findall(r"^(\S+)", capsys.readouterr().out, re.MULTILINE)


def test_all_that_has_a_name_is_listed(capsys):
    from gpuyard import baselines
    from gpuyard.envs.hardware import catalogue
    from gpuyard.envs.scenario import names

    assert listed(capsys, "scenarios") == names()
    assert listed(capsys, "baselines") == baselines.names()
    assert listed(capsys, "gpus") == catalogue.gpu_names()
    assert listed(capsys, "models") == catalogue.model_names()
    assert "sakuraone" in listed(capsys, "clusters")
    assert listed(capsys, "engines")[-2:] == ["sglang", "trtllm"]
    assert {"mooncake", "plain", "sacct", "swf"} <= set(listed(capsys, "formats"))
    assert main(["list"]) == 0
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == list(KINDS)


@pytest.mark.parametrize("columns", [30, 60, 120])
@pytest.mark.parametrize("kind", KINDS)
def test_lists_fit_narrow_terminals(capsys, monkeypatch, columns, kind):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    fits = [line for line in lines if len(line) <= columns]
    # only a name that is longer than the terminal may be
    assert all(" " not in line.strip() for line in lines if line not in fits)


@pytest.mark.parametrize("kind", KINDS)
def test_lists_load_nothing_heavy(kind):
    code = (
        "import sys\n"
        "from gpuyard.cli import main\n"
        f"assert main(['list', {kind!r}]) == 0\n"
        "heavy = {'torch', 'numba', 'scipy', 'pandas', 'matplotlib', 'stable_baselines3'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def shown(capsys, *arguments):
    """Return what is shown."""
    assert main(["show", *arguments]) == 0
    return capsys.readouterr().out


def test_show_a_baseline_says_its_options_as_they_are_written(capsys):
    text = shown(capsys, "baseline", "routing/dynamo")
    assert "decides route" in text
    assert "temperature" in text and "default 0" in text
    assert "Source" in text
    text = shown(capsys, "baseline", "system/kubernetes")
    assert "routing/random+topology/kubernetes-spread+scaling/hpa" in text
    assert "decides place, route, scale" in text


def test_every_option_that_is_shown_can_be_written_into_the_name():
    from gpuyard import baselines

    for name in baselines.names():
        for option in baselines.described(name).options:
            if option.default not in ("", "none"):
                baselines.make(f"{name}?{option.name}={option.default}")


def test_show_a_scenario_an_engine_a_cluster_and_a_format(capsys):
    text = shown(capsys, "scenario", "cluster-default")
    assert "decisions: place, route, scale" in text and "[[deployments]]" in text
    assert "measured" in text  # where its constants are from
    assert "asynchronous             True" in shown(capsys, "engine", "vllm-0.17")
    assert "100 nodes x 8 H100-SXM" in shown(capsys, "cluster", "sakuraone")
    assert "timestamp (ms)" in shown(capsys, "format", "mooncake")
    for kind in ("scenario", "baseline", "engine", "cluster", "format"):
        assert main(["show", kind, "nothing"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "nothing" in error


def test_the_kinds_of_new_are_those_of_its_templates_and_help_loads_no_engine():
    from gpuyard.envs.scenario import template

    assert tuple(template.KINDS) == new.KINDS
    code = (
        "import sys\n"
        "from gpuyard.cli import main\n"
        "try:\n"
        "    main(['new', '--help'])\n"
        "except SystemExit:\n"
        "    assert not {'numba', 'gpuyard.envs.engine'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(kind in done.stdout for kind in template.KINDS)


@pytest.mark.parametrize("kind", new.KINDS)
def test_a_new_scenario_is_sound_and_its_comments_are_the_defaults(capsys, tmp_path, kind):
    from gpuyard.envs.scenario import load

    path = tmp_path / "mine.toml"
    assert main(["new", str(path), "--kind", kind]) == 0
    assert main(["check", str(path)]) == 0
    assert "sound" in capsys.readouterr().out
    text = path.read_text("utf-8")
    assert max(map(len, text.splitlines())) <= 100
    before, plain, after = text.partition("[slo]" if kind == "routing" else "[network]")
    open_ = re.sub(r"^# (\w+ = )", r"\1", plain + after, flags=re.MULTILINE)
    other = path.with_name("other") / "mine.toml"
    other.parent.mkdir()
    other.write_text(before + open_, "utf-8")
    one, same = load(path), load(other)
    for part in ("slo", "estimates", "limits", "observation", "network", "faults", "reward"):
        assert getattr(one, part) == getattr(same, part), part
    assert main(["new", str(path)]) == 2  # nothing is lost
    assert "--force" in capsys.readouterr().err
    assert main(["new", "mine.txt"]) == 2


def test_one_or_several_of_a_kind_mean_the_same(capsys):
    assert main(["list", "gpu"]) == main(["show", "gpus", "H100-SXM"]) == 0
    said = capsys.readouterr()
    assert said.out.count("H100-PCIe") == 1 and not said.err


def test_check_goes_on_after_the_first_that_is_wrong(capsys, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text('[[replicas]]\ngpu = "H100-SMX"\nmodel = "Llama-3-8B"\n')
    assert main(["check", str(path), "routing-default"]) == 2
    said = capsys.readouterr()
    assert "did you mean H100-SXM" in said.err
    assert "routing-default: sound" in said.out
    assert "A100" in said.out and "requests: 512 an episode" in said.out


def test_python_m_and_the_version():
    from gpuyard import __version__

    command = [sys.executable, "-m", "gpuyard", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"gpuyard {__version__}\n"
