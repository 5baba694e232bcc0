"""Traces and job lists whose columns have other names: from Python, scenarios and the command."""

import numpy as np
import pytest

from gpuyard.cli import main
from gpuyard.envs.scenario import ScenarioError, from_dict
from gpuyard.envs.scenario.write import toml
from gpuyard.envs.workload.jobs import readers as job_readers
from gpuyard.envs.workload.requests import readers
from gpuyard.envs.workload.trace_file import TraceError

REQUESTS = {"arrival_s": "time", "prompt_tokens": "in", "output_tokens": "out"}
JOBS = {"arrival_s": "submitted", "gpus": "num_gpus", "duration_s": "secs", "tenant": "user"}
SMALL = {"replicas": [{"gpu": "H100-SXM", "model": "Llama-3-8B"}]}
CLUSTER = {"cluster": {"pools": [{"gpu": "H100-SXM", "nodes": 16}]}}


@pytest.fixture
def requests(tmp_path):
    path = tmp_path / "requests.csv"
    rows = "".join(f"{i / 10},{100 + i},{20 + i},other\n" for i in range(30))
    path.write_text(f"time,in,out,priority\n{rows}".replace(",other", ",0.5"))
    return path


@pytest.fixture
def jobs(tmp_path):
    path = tmp_path / "jobs.csv"
    rows = "".join(f"{60 * i},{1 + i % 8},{600 + i},u{i % 2}\n" for i in range(20))
    path.write_text(f"submitted,num_gpus,secs,user\n{rows}")
    return path


def test_a_mapping_reads_as_the_renamed_file(requests, jobs, tmp_path):
    renamed = tmp_path / "renamed.csv"
    renamed.write_text(
        requests.read_text().replace("time,in,out", "arrival_s,prompt_tokens,output_tokens")
    )
    ours, theirs = readers.read(requests, columns=REQUESTS), readers.read(renamed)
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "priority"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert list(ours.prompt_tokens[:3]) == [100, 101, 102]
    found = job_readers.read(jobs, columns=JOBS)
    assert list(found.gpus[:3]) == [1, 2, 3] and list(found.duration_s[:2]) == [600, 601]
    assert found.tenants == ("u0", "u1")


def test_a_mapping_goes_before_a_column_of_that_name(tmp_path):
    path = tmp_path / "both.csv"
    path.write_text("arrival_s,t,prompt_tokens,output_tokens\n5,0,10,1\n6,3,10,1\n")
    found = readers.read(path, columns={"arrival_s": "t"})
    assert found.arrival_s[1] - found.arrival_s[0] == 3


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"arrival": "time"}, "there is no 'arrival' to map 'time' to; use one of arrival_s, pro"),
        ({"arrival_s": "tme"}, "arrival_s = 'tme' is no column of the file; it has time, in, out"),
        ({"arrival_s": "time"}, "column 'prompt_tokens' is missing"),
    ],
)
def test_errors_name_the_column_and_those_of_the_file(requests, columns, said):
    with pytest.raises(TraceError, match=said):
        readers.read(requests, columns=columns)


def test_other_formats_have_names_of_their_own(requests, jobs):
    for read, path in ((readers.read, requests), (job_readers.read, jobs)):
        with pytest.raises(TraceError, match=r"not of (swf|azure)"):
            read(path, "azure" if path is requests else "swf", columns={"arrival_s": "time"})
        with pytest.raises(TraceError, match=r"map them \(--columns"):
            read(path)
    with pytest.raises(TraceError, match=r"durations .* belongs to format philly-gavel"):
        job_readers.read(jobs, durations=jobs, columns=JOBS)


def test_scenarios_have_them_too(requests, jobs):
    workload = {"trace": str(requests), "columns": REQUESTS}
    one = from_dict(SMALL | {"workload": workload}).workload
    two = from_dict(SMALL).with_trace(requests, columns=REQUESTS).workload
    np.testing.assert_array_equal(one.source.prompt_tokens, two.source.prompt_tokens)
    table = CLUSTER | {"jobs": {"trace": str(jobs), "columns": JOBS}}
    own = from_dict(table).jobs.source
    fed = from_dict(CLUSTER).with_trace(jobs, columns=JOBS)
    np.testing.assert_array_equal(own.gpus, fed.jobs.source.gpus)
    plain = jobs.with_name("plain.csv")
    plain.write_text("arrival_s,gpus,duration_s\n0,2,60\n9,4,60\n")
    assert list(fed.with_trace(plain).jobs.source.gpus) == [2, 4]  # without the mapping of before


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (SMALL | {"workload": {"trace": "x.csv", "columns": 3}}, "workload.columns = 3 must be a"),
        (
            SMALL | {"workload": {"trace": "x.csv", "columns": {"arrival_s": 3}}},
            "workload.columns.arrival_s = 3 must be text",
        ),
        (CLUSTER | {"jobs": {"columns": JOBS}}, "jobs.columns belongs to a job list"),
        (
            CLUSTER | {"jobs": {"trace": "x.csv", "columns": {"gpus": 1}}},
            "jobs.columns.gpus = 1 must be text",
        ),
    ],
)
def test_tables_that_are_no_mapping(table, said):
    with pytest.raises(ScenarioError, match=said):
        from_dict(table)


def test_the_command_maps(requests, tmp_path, capsys):
    file = tmp_path / "small.toml"
    file.write_text(toml(SMALL))
    said = ",".join(f"{name}={theirs}" for name, theirs in REQUESTS.items())
    command = ["--trace", str(requests), "--columns", said, "--seeds", "1", "--policies"]
    command += ["routing/random", "--out"]
    assert main(["evaluate", "--scenarios", str(file), *command, str(tmp_path / "one")]) == 0
    varied = ["whatif", str(file), "--vary", "workload.rate_scale=1"]
    assert main([*varied, *command, str(tmp_path / "two")]) == 0
    page = (tmp_path / "two" / "report.html").read_text()
    assert f"--columns {said}" in page
    one, two = ((tmp_path / name / "results.csv").read_text() for name in ("one", "two"))
    assert one.splitlines()[1].split(",")[2:12] == two.splitlines()[1].split(",")[2:12]
    for wrong, error in (("arrival_s", "NAME=THEIRS"), ("a=b,a=c", "given twice")):
        with pytest.raises(SystemExit, match="2"):
            main(["evaluate", "--columns", wrong])
        assert error in capsys.readouterr().err
