# ruff: noqa: E501
"""Readers of job lists: hand-written files in each format, errors, and the files at hand."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.envs.workload.jobs import replay
from gpuyard.envs.workload.jobs.readers import FORMATS, TraceError, read
from gpuyard.envs.workload.trace_file import TraceWarning

FILES = {
    "plain": """arrival_s,gpus,duration_s
10,4,100
70,1,5.5
""",
    "philly": """submit_time,duration_s,num_gpus,gpu_seconds,vc
2017-10-03 00:01:00,5.5,1,5.5,b
2017-10-03 00:00:00,100.0,4,400.0,a
""",
    "helios": """job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue
1,u1,a,4,16,1,COMPLETED,2020-06-03 08:00:00,2020-06-03 08:00:05,2020-06-03 08:01:45,100,5
2,u1,a,0,16,1,COMPLETED,2020-06-03 08:00:30,2020-06-03 08:00:30,2020-06-03 08:01:30,60,0
3,u2,b,1,4,1,FAILED,2020-06-03 08:01:00,2020-06-03 08:01:00,2020-06-03 08:01:05.5,5.5,0
4,u2,b,1,4,1,CANCELLED,2020-06-03 08:02:00,,,0,0
""",
    "acme": """job_id,user,node_num,gpu_num,cpu_num,type,state,submit_time,start_time,end_time,duration,queue
x,a,1,4,64,Eval,COMPLETED,2023-05-17 11:00:00+00:00,2023-05-17 11:00:10+00:00,2023-05-17 11:01:50+00:00,110,10
y,a,0,0,8,CPU,COMPLETED,2023-05-17 11:00:30+00:00,2023-05-17 11:00:30+00:00,2023-05-17 11:00:40+00:00,10,0
z,b,1,1,8,Debug,FAILED,2023-05-17 11:01:00+00:00,2023-05-17 11:01:00+00:00,2023-05-17 11:01:06+00:00,6,0
""",
    "pai": """job_name,task_name,inst_num,status,start_time,end_time,plan_cpu,plan_mem,plan_gpu,gpu_type
a,worker,3.0,Terminated,1000.0,1100.0,600.0,29.3,100.0,V100
a,evaluator,1.0,Terminated,1005.0,1080.0,600.0,29.3,50.0,MISC
a,ps,2.0,Terminated,990.0,1200.0,600.0,29.3,,
b,tensorflow,1.0,Failed,1060.0,1065.5,600.0,29.3,25.0,T4
c,tensorflow,1.0,Running,1070.0,,600.0,29.3,100.0,T4
""",
    "openb": """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
p0,8000,1024,4,1000,,LS,Succeeded,500,605,505.0
p1,8000,1024,0,0,,LS,Succeeded,510,605,510.0
p2,8000,1024,1,460,T4|P100,BE,Failed,560,567.5,562.0
p3,8000,1024,1,1000,,BE,Pending,570,9000,
""",
    "spot": """job_name,organization,gpu_model,cpu_request,gpu_request,worker_num,submit_time,duration,job_type
1,13,A10,20,1,1,0,2764799,HP
2,13,A10,20,2,2,100,100,HP
3,57,A100-SXM4-80GB,15,0.5,1,160,5.5,Spot
""",
    "swf": """; Version: 2
; Note: hand-written
1 100 -1 100 4 -1 -1 -1 -1 -1 1 7 -1 -1 0 -1 -1 -1
2 130 -1 -1 4 -1 -1 4 -1 -1 5 7 -1 -1 0 -1 -1 -1
3 140 -1 20 4 -1 -1 4 -1 -1 3 7 -1 -1 0 -1 -1 -1
4 160 -1 5.5 -1 -1 -1 1 -1 -1 1 9 -1 -1 0 -1 -1 -1
""",
    "philly-log": """[
{"status": "Pass", "vc": "b", "submitted_time": "2017-10-07 01:12:00", "attempts": [
 {"start_time": "2017-10-07 01:12:10", "end_time": "2017-10-07 01:12:15.500",
  "detail": [{"ip": "m1", "gpus": ["gpu0"]}]}]},
{"status": "Killed", "vc": "b", "submitted_time": "2017-10-07 01:12:00", "attempts": []},
{"status": "Failed", "vc": "a", "submitted_time": "2017-10-07 01:11:00", "attempts": [
 {"start_time": "2017-10-07 02:00:00", "end_time": "2017-10-07 02:01:00",
  "detail": [{"ip": "m1", "gpus": ["gpu0", "gpu1"]}, {"ip": "m2", "gpus": ["gpu0", "gpu1"]}]},
 {"start_time": "2017-10-07 03:00:00", "end_time": "2017-10-07 03:00:40",
  "detail": [{"ip": "m3", "gpus": ["gpu0", "gpu1", "gpu2"]}]},
 {"start_time": "2017-10-07 04:00:00", "end_time": "None", "detail": []}]}
]
""",
    "sacct": """JobID|Submit|Elapsed|AllocTRES|State|Account|Timelimit
7|2024-05-01T10:00:00|00:01:40|cpu=64,gres/gpu:h100=4|COMPLETED|a|1-00:00:00
7.batch|2024-05-01T10:00:00|00:01:40|cpu=64,gres/gpu=4|COMPLETED|a|
8|2024-05-01T10:00:30|00:00:00||CANCELLED by 1001|b|01:00:00
9|2024-05-01T10:01:00|00:00:05|gres/gpu:t4=1,gres/gpu=1|TIMEOUT|b|UNLIMITED
""",
    "shockwave": """ResNet-18 (batch size 32)\tpython3 main.py\tcifar10\t--steps\t1\t1434\t4\tgns\t1\t-1.0\t100\t5
LM (batch size 10)\tpython3 main.py\twikitext2\t--steps\t1\t1345\t1\tstatic\t1\t-1.0\t5.5\t65
""",
    "elasticflow": """job_id,submit_time,real_iteration,model_name,ddl,batch_size,num_gpu,real_duration,duration,iteration
0,10,1282877,vgg16,771220,256,4,100,100,1282877
1,70,26446831,vgg16,2065619,64,1,5.5,5.5,26446831
""",
}
SECOND_S = {"acme": 6.0, "sacct": 5.0}  # their stamps are whole seconds


def write(folder, text, name="jobs.csv"):
    path = folder / name
    path.write_text(text)
    return path


def quiet(path, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TraceWarning)
        return read(path, *args, **options)


@pytest.mark.parametrize("format", FILES)
def test_two_jobs_in_every_format(format, tmp_path):
    """The same two jobs everywhere: 4 GPUs for 100 s, and 1 GPU for 5.5 s a minute later."""
    jobs = quiet(write(tmp_path, FILES[format]))
    assert jobs.duration_s.tolist() == [100.0, SECOND_S.get(format, 5.5)]
    assert jobs.gpus.tolist() == [4, 1]
    assert jobs.arrival_s.tolist() == [0, 60]
    assert jobs.profile.tolist() == [-1, -1] and jobs.profiles == ()
    tenants = {
        "philly": ("a", "b"),
        "helios": ("a", "b"),
        "acme": ("a", "b"),
        "openb": ("LS", "BE"),
        "spot": ("13", "57"),
        "swf": ("7", "9"),
        "philly-log": ("a", "b"),
        "sacct": ("a", "b"),
    }
    assert jobs.tenants == tenants.get(format, ("all",))
    assert jobs.tenant.tolist() == ([0, 1] if format in tenants else [0, 0])
    assert jobs.priority.tolist() == ([1, 0] if format == "spot" else [0, 0])
    named = quiet(write(tmp_path, FILES[format]), format)
    assert np.array_equal(named.gpus, jobs.gpus)


def test_every_format_has_a_file():
    assert FORMATS.keys() == FILES.keys() | {"philly-gavel"}


@pytest.mark.parametrize(
    ("format", "stated"),
    [("swf", [300.0, float("nan")]), ("sacct", [86_400.0, float("nan")])],
)
def test_user_estimates_are_read(format, stated, tmp_path):
    text = FILES[format].replace("1 100 -1 100 4 -1 -1 -1 -1 -1", "1 100 -1 100 4 -1 -1 -1 300 -1")
    jobs = quiet(write(tmp_path, text))
    np.testing.assert_array_equal(jobs.estimate_s, stated)
    np.testing.assert_array_equal(replay.window(jobs, 1, 1).estimate_s, stated[1:])
    np.testing.assert_array_equal(replay.capped(jobs, None, 50.0).estimate_s, [50.0, np.nan])


def test_gavel_lines_have_no_mode(tmp_path):
    text = FILES["shockwave"].replace("\tgns", "").replace("\tstatic", "")
    assert quiet(write(tmp_path, text)).duration_s.tolist() == [100.0, 5.5]


def test_pai_without_its_header(tmp_path):
    text = FILES["pai"].partition("\n")[2]
    jobs = quiet(write(tmp_path, text))
    assert (jobs.gpus.tolist(), jobs.duration_s.tolist()) == ([4, 1], [100.0, 5.5])


def test_dates_with_slashes(tmp_path):
    text = FILES["helios"].replace("2020-06-03 08:01:00,2020-06-03", "2020/6/3 8:01:00,2020-06-03")
    assert quiet(write(tmp_path, text)).arrival_s.tolist() == [0, 60]


def test_half_gpus_of_swf_are_rounded_up_and_said(tmp_path):
    text = FILES["swf"].replace("100 4", "100 3.5")
    with pytest.warns(TraceWarning, match="1 jobs hold parts of processors"):
        assert read(write(tmp_path, text)).gpus.tolist() == [4, 1]


def test_pai_rows_of_one_job_are_put_together(tmp_path):
    """Job a: 3 workers of one GPU and half a GPU for the evaluator, that is 4; ps has none."""
    text = FILES["pai"].replace("1000.0,1100.0", "1000.0,1090.0")
    assert quiet(write(tmp_path, text)).duration_s[0] == 90  # now until the end of the workers


def test_kalos_sample_takes_the_queue_off(tmp_path):
    text = (
        "job_id,submit_time,gpu_num,duration_s,queue_s\nx,2023-05-17 11:00:58+00:00,64,18.0,10.0\n"
    )
    assert read(write(tmp_path, text)).duration_s.tolist() == [8]


def test_gavel_arrivals_take_run_times_of_their_size(tmp_path):
    arrivals = write(tmp_path, "vc,arrival_s,num_gpus\na,0,1\na,5,7\nb,3,16\n")
    times = write(tmp_path, "duration_s,num_gpus\n4000,1\n5000,4\n9000,8\n", "times.csv")
    jobs = read(arrivals, durations=times)
    assert jobs.arrival_s.tolist() == [0, 3, 5] and jobs.gpus.tolist() == [1, 16, 7]
    assert jobs.duration_s.tolist() == [4000, 9000, 5000]
    with pytest.raises(TraceError, match="no run times"):
        read(arrivals)
    with pytest.raises(TraceError, match="no arrival_s"):
        read(times)
    with pytest.raises(TraceError, match="belongs to format philly-gavel"):
        read(write(tmp_path, FILES["plain"]), "plain", times)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("arrival_s,gpus,duration_s\n", "no rows"),
        ("arrival_s,gpus,duration_s\n0,1\n", "line 2: 2 values for 3 columns"),
        ("arrival_s,gpus,duration_s\n0,1,5\n3,0,5\n", "line 3: gpus = '0' .* whole number"),
        ("arrival_s,gpus,duration_s\n0,1.5,5\n", "line 2: gpus = '1.5'"),
        ("arrival_s,gpus,duration_s\n0,1,0\n", "duration_s = '0' is no run time"),
        ("arrival_s,gpus,duration_s\n0,1,nan\n", "line 2: duration_s = 'nan'"),
        ("arrival_s,gpus,duration_s\nnoon,1,5\n", "line 2: arrival_s = 'noon'"),
        ("arrival_s,gpus,duration_s,priority\n0,1,5,3\n", "priority = '3' .* from 0 to 1"),
        ("arrival_s,gpus,duration_s,pool\n0,1,5,-2\n", "pool = '-2'"),
        ("time,gpus\n0,1\n", "belong to no known job list"),
        ("time,submit_gpu_job,submit_gpu_num\n2020-04-01 00:00:00,6,6\n", "counts of jobs"),
        ("arrival_s,gpus,duration_s\n0,1e10,5\n", "gpus = '1e10' is no number of GPUs"),
        ("arrival_s,gpus,duration_s\n0,1,1e308\n", "duration_s = '1e308' is no run time"),
        ("arrival_s,gpus,duration_s\n1e300,1,5\n", "arrival_s = '1e300' is no time"),
        ("arrival_s,gpus,duration_s,gpus\n0,1,5,2\n", "line 1: column 'gpus' stands there twice"),
        ("arrival_s,gpus,duration_s\n0,1," + "5" * 140_000, "line 2: is no line of CSV"),
        (FILES["swf"].replace(" 4 -1", " 1e10 -1"), "allocated processors = '1e10'"),
        (FILES["helios"].replace("a,4,", "a,0,").replace("b,1,", "b,0,"), "no job is left"),
        (FILES["philly-log"].replace('"gpus": ["gpu0"]', '"gpus": 1'), "line 2: attempts = "),
        (FILES["philly-log"].replace("}]}]},", "}]}]"), "is no JSON"),
        (FILES["philly"].replace("2017-10-03 00:00:00", "yesterday"), "submit_time = 'yesterday'"),
        (FILES["spot"].replace("Spot", "Dev"), "job_type = 'Dev'"),
        ("; SWF\n1 2 3\n", "line 2: 3 values, but SWF has 18"),
        ("; SWF\n1 0 -1 -1 4 -1 -1 -1 -1 -1 5 7 -1 -1 0 -1 -1 -1\n", "no job"),
    ],
)
def test_bad_files_are_refused(text, message, tmp_path):
    with pytest.raises(TraceError, match=message):
        quiet(write(tmp_path, text))


def test_unknown_format_and_missing_file(tmp_path):
    with pytest.raises(TraceError, match="choose one of auto, philly"):
        read(write(tmp_path, FILES["plain"]), "csv")
    with pytest.raises(TraceError, match="cannot be opened"):
        read(tmp_path / "none.csv")


def test_too_many_tenants_are_refused(tmp_path):
    rows = "".join(f"0,1,5,user{i}\n" for i in range(2**15))
    with pytest.raises(TraceError, match="32768 different labels"):
        read(write(tmp_path, "arrival_s,gpus,duration_s,tenant\n" + rows))


def test_rows_left_out_are_counted(tmp_path):
    with pytest.warns(TraceWarning, match="left out 2 of 4 rows"):
        read(write(tmp_path, FILES["helios"]))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6), st.integers(1, 4096), st.integers(1, 10**6), st.booleans()
        ),
        min_size=1,
        max_size=20,
    )
)
def test_a_plain_list_survives_the_round_trip(tmp_path_factory, rows):
    lines = [f"{t},{g},{d},{'x' if x else ''}" for t, g, d, x in rows]
    path = write(
        tmp_path_factory.mktemp("lists"),
        "\n".join(["arrival_s,gpus,duration_s,tenant", *lines]) + "\n",
    )
    jobs = read(path)
    ordered = sorted(rows, key=lambda row: row[0])  # stable, as the reader's order
    first = ordered[0][0]
    assert jobs.arrival_s.tolist() == [t - first for t, _, _, _ in ordered]
    assert jobs.gpus.tolist() == [g for _, g, _, _ in ordered]
    assert jobs.duration_s.tolist() == [d for _, _, d, _ in ordered]
    named = any(x for _, _, _, x in rows)
    expected = [("x" if x else "unknown") if named else "all" for _, _, _, x in ordered]
    assert [jobs.tenants[t] for t in jobs.tenant] == expected


@pytest.mark.parametrize(
    ("name", "jobs", "gpus", "seconds"),
    [  # jobs, mean GPUs and mean run time as awk counts them
        ("philly/philly_jobs_sia_before_2017-11-06.csv.gz", 55_803, 1.2136, 13_970.5),
        ("acme/kalos_jobs_sample_rows0-599.csv", 600, 25.7233, 9166.1),
        ("swf/lublin_256.swf.gz", 10_000, 22.101, 4862.77),
        ("alibaba-gpu-v2023/openb_pod_list_default_first70pct.csv.gz", 4365, 1.06552, 42_222.5),
    ],
)
def test_files_at_hand(name, jobs, gpus, seconds, data_dir):
    path = data_dir / "traces" / name
    if not path.exists():
        pytest.skip(f"no {path}")
    stream = quiet(path)
    assert len(stream) == jobs
    assert np.all(np.diff(stream.arrival_s) >= 0) and np.all(stream.duration_s > 0)
    assert stream.gpus.mean() == pytest.approx(gpus, rel=1e-4)
    assert stream.duration_s.mean() == pytest.approx(seconds, rel=1e-4)


SACCT = ("JobID", "Submit", "Start", "End", "AllocTRES", "State")
RAN = ("7", "2026-01-05T10:00:00", "2026-01-05T10:01:00", "2026-01-05T12:01:00", "COMPLETED")
RESOURCES = "billing=64,cpu=64,gres/gpu=8,gres/gpu:h100=8,node=1"


def sacct_file(path: Path, separator: str, rows: list[tuple[str, ...]], header=SACCT) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator, lineterminator="\r\n").writerows([header, *rows])
    return path


@pytest.mark.parametrize("separator", ["|", ";", "\t", ","])
def test_sacct_by_separator_and_by_start_and_end(tmp_path: Path, separator: str) -> None:
    """One ran for two hours, one waits, one was cancelled before, one ran into a further day."""
    rows = [
        (*RAN[:4], RESOURCES, RAN[4]),
        ("8_[1-4%2]", "2026-01-05T10:00:30", "Unknown", "Unknown", "", "PENDING"),
        ("9", "2026-01-05T10:01:00", "None", "2026-01-05T10:02:00", RESOURCES, "CANCELLED by 5"),
        ("9.batch", "2026-01-05T10:01:00", "N/A", "N/A", RESOURCES, "CANCELLED"),
        (
            "10_3",
            "2026-01-05T10:02:00",
            "2026-01-05T23:00:00",
            "2026-01-06T01:00:01",
            "gres/gpu=2",
            "OK",
        ),
    ]
    with pytest.warns(TraceWarning, match="left out"):
        jobs = read(sacct_file(tmp_path / "jobs.txt", separator, rows))
    assert jobs.arrival_s.tolist() == [0.0, 120.0]
    assert jobs.gpus.tolist() == [8, 2] and jobs.duration_s.tolist() == [7200.0, 7201.0]


@pytest.mark.parametrize(
    ("header", "row", "gpus"),
    [
        (
            ("JobIDRaw", "Submit", "ElapsedRaw", "ReqTRES"),
            ("7", "1767607200", "7200", RESOURCES),
            8,
        ),
        (("JobID", "Submit", "Elapsed", "AllocGRES"), ("7", RAN[1], "02:00:00.5", "gpu:h100:4"), 4),
        (
            ("JobID", "Submit", "Elapsed", "AllocTRES"),
            ("7", RAN[1], "0-02:00:00", "gres/gpu:a=2"),
            2,
        ),
    ],
)
def test_sacct_by_other_columns(tmp_path: Path, header, row, gpus: int) -> None:
    jobs = read(sacct_file(tmp_path / "jobs.txt", "|", [row], header))
    assert jobs.gpus.tolist() == [gpus] and jobs.duration_s.tolist() == [7200.0]


def test_sacct_that_cannot_be_read_says_what_to_print(tmp_path: Path) -> None:
    path = tmp_path / "jobs.txt"
    path.write_text("JobID      Submit              AllocTRES\n---- ---- ----\n7 2026 gres/gpu=8\n")
    with pytest.raises(TraceError, match="print it with sacct -P"):
        read(path)
    row = ("7", RAN[1], RESOURCES)
    with pytest.raises(TraceError, match="Start and End are missing; print one"):
        read(sacct_file(path, "|", [row], ("JobID", "Submit", "AllocTRES")))
