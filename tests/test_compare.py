"""``gpuyard compare``: two results, paired by seed."""

import pytest

from gpuyard.cli import main


def write(folder, rows):
    """Write a folder of results: policy, seed, reward, mean TTFT."""
    folder.mkdir()
    lines = ["scenario,policy,seed,reward,ttft_mean_s"]
    lines += [f"world,{policy},{seed},{reward},{ttft}" for policy, seed, reward, ttft in rows]
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


@pytest.fixture
def results(tmp_path):
    """Seeds 1 to 3 before and 2 to 4 after; rule b gains 2 and 4, by hand 3 +- 12.7."""
    before = [("a", 1, -5, 0.5), ("b", 1, -9, 0.9), ("a", 2, -6, 0.6), ("b", 2, -8, 0.8)]
    after = [("b", 3, -5, 0.5), ("b", 2, -6, 0.6), ("b", 4, -1, 0.1)]
    return (
        write(tmp_path / "before", [*before, ("a", 3, -7, 0.7), ("b", 3, -9, 0.9)]),
        write(tmp_path / "after", after),
    )


def test_what_changed_is_paired_by_seed(results, capsys):
    assert main(["compare", *results]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "world: 2 seeds in both"
    # t of one degree of freedom is 12.706; the deviation of 2 and 4 is sqrt(2)
    assert lines[-2].split() == ["b", "+3.00", "±", "12.71", "+0.300", "±", "1.271"]
    assert main(["compare", *results, "--policy", "b", "--metrics", "reward"]) == 0
    text = capsys.readouterr().out
    assert "b against a" in text and "+1.00 ± 12.71" in text  # -6 to -6, -7 to -5


def test_what_has_nothing_in_common_is_one_clear_error(results, tmp_path, capsys):
    other = write(tmp_path / "other", [("b", 9, -5, 0.5)])
    assert main(["compare", results[0], other]) == 2
    assert "no seed in common" in capsys.readouterr().err
    assert main(["compare", *results, "--policy", "c"]) == 2
    assert "has b; none of c" in capsys.readouterr().err
    assert main(["compare", *results, "--metrics", "speed"]) == 2
    assert "--metrics speed" in capsys.readouterr().err


def test_results_are_not_overwritten_silently(results, capsys, tmp_path, monkeypatch):
    arguments = ["evaluate", "--scenarios", "routing-default", "--policies", "routing/random"]
    assert main([*arguments, "--out", results[0]]) == 2
    assert "--force" in capsys.readouterr().err
    from pathlib import Path

    from gpuyard.commands.arguments import out_folder

    monkeypatch.chdir(tmp_path)
    usual = Path("before")
    assert out_folder(None, usual, False) == Path("before-2")
    write(tmp_path / "before-2", [])
    assert out_folder(None, usual, False) == Path("before-3")
    assert out_folder(None, usual, True) == usual
    assert out_folder(Path("new"), usual, False) == Path("new")
