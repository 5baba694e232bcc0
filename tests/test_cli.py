"""The console command: what a newcomer types, and what a typing error answers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpuyard.cli import main
from gpuyard.evaluation.tables import read_csv

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "envs" / "scenarios"
TINY = "--steps 8192 --num-envs 8 --n-steps 256 --batch-size 512 --width 8 --eval-seeds 2".split()


def fails(capsys, *arguments):
    """Run a command that must fail with one line; return the line."""
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"gpuyard {arguments[0]}: error: ")
    return lines[0]


@pytest.mark.parametrize(
    "command", ["--help", "--version", "train --help", "evaluate --help", "render --help"]
)
def test_light_commands_do_not_import_torch(command):
    code = (
        "import sys\n"
        "from gpuyard.cli import main\n"
        f"sys.argv = ['gpuyard', *{command.split()!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'stable_baselines3', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_command_is_in_the_help_and_has_its_own(capsys):
    from gpuyard.cli import COMMANDS

    assert main([]) == 2  # nothing asked for: what can be
    assert "whatif" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    words = capsys.readouterr().out.split()
    for name in COMMANDS:
        assert name in words
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert said.startswith(f"usage: gpuyard {name}")
        assert not re.search(r"default: (\)|None|False|;|\{\})", said)  # that is no default
        assert not re.search(r"\(default: [^)]*\) \(default", said)


@pytest.mark.parametrize("shown", ["model Qwen3-8B", "gpu H100-SXM"])
def test_show_is_light(shown):
    code = (
        "import sys\n"
        "from gpuyard.cli import main\n"
        f"assert main(['show', *{shown.split()!r}]) == 0\n"
        "assert not {'torch', 'numba', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(len(line) < 80 for line in done.stdout.splitlines())


def fields_shown(capsys, *arguments):
    """Return what is shown as the words of each line by its first."""
    assert main(["show", *arguments]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {line[0]: line[1:] for line in lines if line}


def test_show_a_model_of_the_catalogue(capsys):
    shown = fields_shown(capsys, "model", "Qwen3-Next-80B-A3B")
    assert shown["layers"] == ["48", "layers"]
    assert shown["window"] == ["-", "tokens"]
    assert shown["attention_gate"] == ["yes"]
    assert shown["parameters"][:2] == ["79.674", "billion"]
    assert shown["full"] == "cache 12 layers each 2,048 B a token in bf16".split()
    assert shown["linear"] == "cache 36 layers each 1,097,728 B a sequence".split()
    assert "published:" in shown


def test_show_a_configuration_says_which_key_each_field_is_from(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(
        '{"architectures": ["MistralForCausalLM"], "num_hidden_layers": 32, "hidden_size": 4096,'
        '"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,'
        '"vocab_size": 32000, "sliding_window": 4096}'
    )
    shown = fields_shown(capsys, "model", str(path))
    assert shown["layers"] == ["32", "layers", "num_hidden_layers"]
    assert shown["head_dim"] == ["128", "elements", "head_dim", "(absent)"]
    assert shown["window"] == "cache 32 layers each 4,096 B a token in bf16 of the last".split()
    assert shown["parameters"][0] == "7.242"


def test_show_a_gpu(capsys):
    shown = fields_shown(capsys, "gpu", "H100-SXM")
    assert shown["bf16_flops"] == ["989.4", "TFLOP/s"]
    assert shown["memory_bytes"] == ["79.11", "GiB"]
    assert shown["scale_up"] == ["nvlink"]
    assert shown["nic_bytes_per_s"] == ["50", "GB/s"]
    assert shown["fp8"] == ["measured:", "AIC", "TRT-LLM"]
    assert shown["int4"][:3] == ["analogy:", "AIC", "vLLM"]


def test_show_what_there_is_not(tmp_path, capsys):
    assert "did you mean Llama-3-8B" in fails(capsys, "show", "model", "llama3-8b")
    assert "did you mean H100-SXM" in fails(capsys, "show", "gpu", "H100-SMX")
    missing = str(tmp_path / "config.json")
    assert f"{missing}: cannot be opened" in fails(capsys, "show", "model", missing)


def test_warmup_names_each_task_as_it_ends(capsys):
    from gpuyard.envs.warmup import tasks

    assert main(["warmup"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("engine ready in ")
    done = [line.partition(" ")[2].partition(":")[0] for line in lines[:-1]]
    assert sorted(done) == sorted(tasks())


def test_train_then_evaluate_its_model(tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path), "--name", "tiny", *TINY]) == 0
    printed = capsys.readouterr().out
    run = tmp_path / "tiny"
    assert "learned" in printed and "random" in printed and "round-robin" in printed
    saved = {path.name for path in run.iterdir()}
    assert {"policy.safetensors", "model.zip", "config.json", "results.csv", "results.md"} <= saved
    assert {"metrics-routing-default.png", "learning_curve.png"} <= saved

    policies = f"routing/random,{run / 'policy.safetensors'}"
    out = tmp_path / "again"
    arguments = ["evaluate", "--policies", policies, "--seeds", "2", "--out", str(out)]
    assert main(arguments) == 0
    trained = next(r for r in read_csv(run / "results.csv") if r.policy == "learned")
    again = next(
        r for r in read_csv(out / "results.csv") if r.policy.endswith("policy.safetensors")
    )
    np.testing.assert_array_equal(again.metrics["ttft_mean_s"], trained.metrics["ttft_mean_s"])


def test_placement_trains_and_evaluates_alike(tmp_path, capsys):
    scenario = tmp_path / "small.toml"
    scenario.write_text(
        '[[cluster.pools]]\ngpu = "H100-SXM"\nnodes = 8\n[cluster.fabric]\nnodes_per_leaf = 2\n'
        '[jobs]\npreset = "mixed"\nnum_jobs = 24\nmax_gpus = 32\n'
    )
    env = ["--env", "gpuyard/Placement-v0"]
    arguments = ["train", "--scenario", str(scenario), "--out", str(tmp_path), "--no-eval"]
    assert main([*arguments, "--name", "tiny", *TINY]) == 0
    model = str(tmp_path / "tiny" / "policy.safetensors")
    policies = f"gang/fifo,gang/random,topology/kai,{model}"
    arguments = ["evaluate", *env, "--scenarios", str(scenario), "--policies", policies]
    capsys.readouterr()
    assert main([*arguments, "--seeds", "2", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    for shown in ("gang/fifo", "gang/random", "topology/kai", model, "JCT s", "rho P95"):
        assert shown in printed
    saved = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"jct-small.png", "gantt-small.png", "metrics-small.png"} <= saved
    for result in read_csv(tmp_path / "out" / "results.csv"):
        assert (result.metrics["finished"] == 24).all()
        assert (result.metrics["invalid_actions"] == 0).all()


def test_evaluate_on_a_trace(tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    rows = [f"{0.2 * i:.1f},{100 + i},{20 + i % 7}" for i in range(40)]
    trace.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    out = tmp_path / "out"
    policies = "routing/least-requests,routing/random"
    arguments = ["evaluate", "--trace", str(trace), "--seeds", "2", "--out", str(out)]
    assert main([*arguments, "--policies", policies]) == 0
    assert [r.policy for r in read_csv(out / "results.csv")] == ["least-requests", "random"]
    assert read_csv(out / "results.csv")[0].metrics["finished"][0] == 40


def test_errors_are_one_line(tmp_path, capsys):
    assert "did you mean" in fails(capsys, "evaluate", "--policies", "routing/rndom")
    assert "nowhere" in fails(capsys, "evaluate", "--scenarios", "nowhere")
    assert "none.zip: no such model file" in fails(capsys, "evaluate", "--policies", "none.zip")
    missing = str(tmp_path / "missing.csv")
    assert "missing.csv" in fails(capsys, "evaluate", "--trace", missing)
    broken = tmp_path / "broken.csv"
    broken.write_text("arrival_s,prompt_tokens\n0,5\n")
    assert "broken.csv" in fails(capsys, "evaluate", "--trace", str(broken))
    assert "nowhere" in fails(capsys, "train", "--scenario", "nowhere", "--out", str(tmp_path))
    assert "no run to resume" in fails(capsys, "train", "--resume", str(tmp_path))
    assert "gamma = 2.0: must lie in" in fails(capsys, "train", "--gamma", "2")
    assert "no baseline 'x'" in fails(capsys, "train", "--teacher", "x", "--out", str(tmp_path))
    device = fails(capsys, "train", "--device", "cuda:99", "--out", str(tmp_path))
    assert "device = 'cuda:99': torch cannot use it" in device
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere}: No such file or directory" in fails(
        capsys, "compare", str(nowhere), str(nowhere)
    )
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]  # no half-made runs


def test_a_resumed_run_keeps_its_settings(tmp_path, capsys):
    said = fails(capsys, "train", "--resume", str(tmp_path), "--steps", "5", "--num-envs", "2")
    assert f"settings of {tmp_path}: leave out --steps, --num-envs" in said


def test_scenarios_of_one_name_are_told_apart(tmp_path, capsys):
    text = (FOLDER / "routing-default.toml").read_text("utf-8").replace("512", "24")
    paths = [tmp_path / where / "mine.toml" for where in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(text)
    out, policies = tmp_path / "out", ("--policies", "routing/random", "--seeds", "1")
    both = ",".join(map(str, paths))
    assert main(["evaluate", "--scenarios", both, *policies, "--out", str(out)]) == 0
    assert [r.scenario for r in read_csv(out / "results.csv")] == ["a-mine", "b-mine"]
    assert {"metrics-a-mine.png", "metrics-b-mine.png"} <= {path.name for path in out.iterdir()}
    twice = f"{paths[0]},{paths[0]}"
    capsys.readouterr()
    assert "names one scenario twice" in fails(capsys, "evaluate", "--scenarios", twice)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminals_that_lack_signs_show_plain_ones(tmp_path, encoding):
    """Files are UTF-8 whatever the locale."""
    scenario = tmp_path / "mine.toml"
    text = (FOLDER / "routing-default.toml").read_text("utf-8").replace("512", "24")
    scenario.write_text(text, "utf-8")
    code = "import sys; from gpuyard.cli import main; sys.exit(main())"
    arguments = ["evaluate", "--scenarios", str(scenario), "--policies", "routing/random"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--seeds", "2", "--out", str(tmp_path)],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert ("+-" if encoding == "ascii" else "±") in done.stdout.decode(encoding)
    assert "±" in (tmp_path / "results.md").read_text("utf-8")


def test_policies_and_ids_for_other_decisions_are_errors_of_one_line(tmp_path, capsys):
    routing, placement = "scenario 'routing-default'", "scenario 'placement-default'"
    mixed = "routing/random,gang/sjf,gang/fifo"
    said = fails(capsys, "evaluate", "--policies", mixed, "--seeds", "2")
    assert f"SJF decides place, but {routing} asks for route" in said
    said = fails(capsys, "evaluate", "--policies", "gang/easy-backfill", "--seeds", "1")
    assert f"EasyBackfill decides place, but {routing} asks for route" in said
    arguments = ["--scenarios", "placement-default", "--policies", "routing/random"]
    said = fails(capsys, "evaluate", *arguments)
    assert f"Random decides route, but {placement} asks for place" in said
    said = fails(capsys, "evaluate", "--env", "gpuyard/Routing-v0", *arguments[:2])
    assert f"{placement} asks for place, but this id is for route: use gpuyard/Placement-v0" in said
    out = ["--out", str(tmp_path)]
    said = fails(
        capsys, "train", "--env", "gpuyard/Placement-v0", "--scenario", "routing-default", *out
    )
    assert f"{routing} asks for route, but this id is for place: use gpuyard/Routing-v0" in said
    said = fails(
        capsys, "train", "--scenario", "placement-default", "--teacher", "routing/llm-d", *out
    )
    assert f"LLMD decides route, but {placement} asks for place" in said
    assert "'gym/X-v0' is none of gpuyard/" in fails(capsys, "train", "--env", "gym/X-v0", *out)
    unknown = ["--env", "gym/X-v0", "--scenario", "routing-default", *out]
    assert "gym" in fails(capsys, "train", *unknown)
    assert not list(tmp_path.iterdir())


def test_which_baselines_and_names_follow_from_the_scenarios():
    from gpuyard.baselines import decides, names
    from gpuyard.commands.choosing import baselines_for, policies
    from gpuyard.envs.scenario import load

    routing, placement = load("routing-default"), load("placement-default")
    assert baselines_for([routing]) == names("routing")
    assert set(baselines_for([placement])) == {
        *names("gang"),
        *names("topology"),
        *names("isolation"),
    }
    whole = [name for name in names("system") if "place" in decides(name)]
    assert baselines_for([load("cluster-default")]) == whole
    apart = ("scaling", "migration", "system")
    both = [name for name in names() if name.partition("/")[0] not in apart]
    assert baselines_for([routing, placement]) == both
    chosen = ["routing/random", "compose:routing/dynamo+gang/sjf"]
    assert list(policies(chosen, [routing])) == ["random", chosen[1]]
    assert list(policies(chosen, [routing, placement])) == chosen
    assert list(policies(["gang/sjf"], [placement])) == ["gang/sjf"]


def test_scenarios_of_several_kinds_of_decisions_side_by_side(tmp_path, capsys):
    """Each is played in its own environment by those that decide there."""
    arguments = ["--scenarios", "routing-default,placement-default", "--seeds", "1"]
    policies = ["--policies", "compose:routing/random+gang/fifo"]
    assert main(["evaluate", *arguments, *policies, "--out", str(tmp_path)]) == 0
    results = read_csv(tmp_path / "results.csv")
    assert [result.scenario for result in results] == ["routing-default", "placement-default"]
    assert "ttft_mean_s" in results[0].metrics and "jct_mean_s" in results[1].metrics
    saved = {path.name for path in tmp_path.iterdir()}
    assert {"ttft-routing-default.png", "gantt-placement-default.png"} <= saved


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_scripts_are_doors_to_the_command(script):
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: gpuyard {script[:-3]}")
