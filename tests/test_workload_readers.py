"""Trace readers: tiny files of every format, every gotcha, every error, and the real slices."""

import gzip
import json
import warnings
from itertools import pairwise

import numpy as np
import pytest

from gpuyard.envs.workload.requests.prefix import hit_tokens, shared_only
from gpuyard.envs.workload.requests.readers import TraceError, TraceWarning, detect, read
from gpuyard.envs.workload.requests.readers.mooncake import spread_grid
from gpuyard.envs.workload.requests.transform import window


@pytest.fixture
def write(tmp_path):
    def _write(text, name="trace.txt"):
        path = tmp_path / name
        data = text if isinstance(text, str) else "\n".join(map(json.dumps, text))
        path.write_bytes(gzip.compress(data.encode()) if name.endswith(".gz") else data.encode())
        return path

    return _write


def ids_of(stream):
    cuts = stream.prefix_offsets
    return [stream.prefix_ids[a:b].tolist() for a, b in pairwise(cuts)]


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
PLAIN = "arrival_s,prompt_tokens,output_tokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def mooncake(timestamp, tokens, hash_ids):
    return dict(timestamp=timestamp, input_length=tokens, output_length=5, hash_ids=hash_ids)


def bailian(chat, parent, timestamp, tokens, hash_ids):
    lengths = dict(input_length=tokens, output_length=7, type="text", turn=1)
    times = dict(chat_id=chat, parent_chat_id=parent, timestamp=timestamp)
    return times | lengths | dict(hash_ids=hash_ids)


# --- formats -------------------------------------------------------------------------------------


def test_azure_2023_has_seven_digits_and_no_zone(write):
    stream = read(
        write(AZURE + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n")
    )
    assert stream.arrival_s.tolist() == pytest.approx([0.0, 4.314579], abs=1e-9)
    assert stream.prompt_tokens.tolist() == [374, 396]
    assert stream.output_tokens.tolist() == [44, 109]
    assert stream.session.tolist() == [-1, -1] and stream.prefix_block_tokens == 0
    dtypes = (stream.arrival_s.dtype, stream.prompt_tokens.dtype, stream.prefix_offsets.dtype)
    assert dtypes == (np.float64, np.int32, np.int64)


def test_azure_2024_mixes_digits_and_zone_suffix(write):
    stamps = ["00:00:00+00:00", "00:00:00.0300800+00:00", "00:00:00.1+00:00", "00:00:01Z"]
    text = AZURE + "".join(f"2024-05-12 {stamp},10,2\n" for stamp in stamps)
    assert read(write(text)).arrival_s.tolist() == pytest.approx([0, 0.03008, 0.1, 1], abs=1e-9)


def test_azure_in_another_zone_is_refused(write):
    with pytest.raises(TraceError, match=r"line 2: TIMESTAMP .*not a UTC time.*\+00:00"):
        read(write(AZURE + "2024-05-12 00:00:00+02:00,10,2\n"))


def test_azure_lookalike_is_warned_about(write):
    row = "2024-05-12 00:00:00,10,2\n"
    with pytest.warns(TraceWarning, match="synthetic"):
        read(write(AZURE + row, "azure_llm_2024_sample.csv"))
    with pytest.warns(TraceWarning, match="5,880"):
        read(write(AZURE + row * 5880))


def test_mooncake_drops_the_partial_block(write):
    rows = [mooncake(0, 1300, [0, 1, 2]), mooncake(500, 1024, [0, 1]), mooncake(900, 100, [9])]
    stream = read(write(rows))
    assert stream.prefix_block_tokens == 512
    assert ids_of(stream) == [[0, 1], [0, 1], []]
    assert stream.arrival_s.tolist() == [0.0, 0.5, 0.9]


def test_mooncake_grid_is_spread_inside_its_bucket(write):
    rows = [mooncake(3000 * (i // 10), 600, [0, 1]) for i in range(1000)]
    path = write(rows, "conversation.jsonl.gz")
    spread, raw = read(path), read(path, spread=False)
    bucket = np.arange(1000) // 10
    assert np.array_equal(raw.arrival_s, 3.0 * bucket)
    assert np.array_equal(np.floor(spread.arrival_s / 3.0), bucket)
    assert np.all(np.diff(spread.arrival_s) >= 0)
    assert np.array_equal(spread.arrival_s, read(path).arrival_s)
    gaps = np.diff(spread.arrival_s)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.1)  # near Poisson


def test_fine_stamps_are_not_spread():
    times = np.array([0.0, 0.181, 0.181, 0.4, 1.0])
    assert spread_grid(times) is times
    wide = spread_grid(np.repeat([0.0, 3.0, 6.0, 60.0], 5))  # a pause is not part of the bucket
    assert wide[10:15].max() < 9.0


def test_burstgpt_drops_and_counts_failures(write):
    rows = "5,ChatGPT,472,18,490,x\n9,GPT-4,300,0,300,x\n45,GPT-4,7,230,237,x\n"
    path = write(BURST + rows)
    with pytest.warns(TraceWarning, match="dropped 1 of 3 requests with Response tokens = 0"):
        stream = read(path)
    assert stream.arrival_s.tolist() == [0.0, 40.0]
    assert stream.prompt_tokens.tolist() == [472, 7]
    with pytest.raises(TraceError, match=r"line 3: Response tokens = '0'.*drop_failed=True"):
        read(path, drop_failed=False)


def test_burstgpt_sessions(write):
    header = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,"
    rows = "100,a-1,3,GPT-4,9,4,13,x\n101,b-2,2,GPT-4,9,4,13,x\n102,a-1,1,GPT-4,9,4,13,x\n"
    stream = read(write(header + "Log Type\n" + rows + "103,,1,GPT-4,9,4,13,x\n"))
    assert stream.session.tolist() == [0, 1, 0, -1]
    assert stream.arrival_s[0] == 0.0


def test_burstgpt_lookalike_is_warned_about(write):
    names = ("ChatGPT", "GPT-4")
    rows = [f"{i},{names[i % 2]},10,5,15,API log\n" for i in range(20)]
    with pytest.warns(TraceWarning, match="synthetic"):
        read(write(BURST + "".join(rows)))
    rows[3] = "3,ChatGPT,10,5,15,API log\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(write(BURST + "".join(rows)))


def test_bailian_chains_block_hashes_and_follows_parents(write):
    rows = [
        bailian(3, -1, 0.0, 40, [7, 8, 9]),  # 40 tokens: two whole blocks
        bailian(5, 3, 1.5, 48, [7, 8, 1]),
        bailian(6, 5, 2.0, 16, [8]),  # block 8 at another place: another prefix
        bailian(9, 4, 3.0, 16, [7]),  # parent outside the file
    ]
    stream = read(write(rows))
    assert stream.prefix_block_tokens == 16
    assert ids_of(stream) == [[0, 1], [0, 1, 2], [3], [0]]
    assert stream.session.tolist() == [0, 0, 0, 1]


def test_plain_with_everything(write):
    header = (
        "arrival_s,prompt_tokens,output_tokens,session,priority,prefix_ids,prefix_block_tokens\n"
    )
    stream = read(write(header + "0.5,64,40,x,1,10 11 12,32\n0.75,64,1,,0.5,10 20,32\n"))
    assert stream.arrival_s.tolist() == [0.5, 0.75]  # not rebased
    assert stream.session.tolist() == [0, -1]
    assert stream.priority.tolist() == [1.0, 0.5]
    assert ids_of(stream) == [[0, 1, 2], [0, 3]]  # ids go on over the output
    assert stream.prefix_block_tokens == 32


@pytest.mark.parametrize(
    "header",
    ["arrived_at,num_prefill_tokens,num_decode_tokens", "arrival_s,input_tokens,output_tokens"],
)
def test_plain_aliases(write, header):
    stream = read(write(header + "\n0.0,1164,455\n0.220174,597,63\n"))
    assert (stream.prompt_tokens.tolist(), stream.output_tokens.tolist()) == (
        [1164, 597],
        [455, 63],
    )


def test_plain_block16_chain_ids(write):
    stream = read(write("arrival_s,input_tokens,output_tokens,block16_chain_ids\n0,35,9,0 1\n"))
    assert stream.prefix_block_tokens == 16 and ids_of(stream) == [[0, 1]]


def test_servegen_generates_client_by_client(write):
    windows = "t,client,rate,cv,pattern,shape,scale\n"
    windows += "0,1,2.0,1,Gamma,1,1\n600,1,4.0,1,Gamma,1,1\n0,2,1.0,2,Weibull,0.6,1\n"
    path = write(windows, "toy_client_windows.csv.gz")
    pdfs = [
        dict(client=1, t=0, input_tokens=[[100], [1.0]], output_tokens=[[10, 20], [0.25, 0.75]]),
        dict(client=2, t=0, input_tokens=[[7], [1.0]], output_tokens=[[0], [0.9]]),
    ]
    write(pdfs, "toy_length_pdfs.jsonl.gz")
    stream = read(path, duration_s=1200.0, seed=3)
    big = stream.prompt_tokens == 100
    assert [np.sum(big & (stream.arrival_s < 600)), np.sum(big)] == [1200, 3600]
    assert np.sum(~big) == 600 and np.all(stream.output_tokens[~big] == 1)
    assert np.mean(stream.output_tokens[big]) == pytest.approx(17.5, abs=0.4)
    again = read(path, duration_s=1200.0, seed=3)
    assert again.arrival_s.tobytes() == stream.arrival_s.tobytes()
    late = read(path, start_s=600.0)
    assert len(late) == 2400 and 0 <= late.arrival_s[0] and late.arrival_s[-1] < 600
    with pytest.raises(TraceError, match="no request between"):
        read(path, start_s=9e9)


def test_servegen_multimodal_prompt_adds_every_image(write):
    path = write(
        "t,client,rate,cv,pattern,shape,scale\n0,1,1,1,Gamma,1,1\n", "m_client_windows.csv"
    )
    one = dict(text_tokens=[[30], [1]], image_tokens=[[100], [1]], image_count=[[2], [1]])
    write([dict(client=1, t=0, output_tokens=[[5], [1]]) | one], "m_length_pdfs_top25.jsonl")
    assert set(read(path).prompt_tokens) == {230}


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,10\n", r"line 2: 2 values for 3 columns"),
        ("0,10,5\n1,-3,5\n", r"line 3: prompt_tokens = '-3' is not a length"),
        ("0,10,0\n", r"line 2: output_tokens = '0' is not a length.*drop_failed"),
        ("0,10.5,5\n", r"line 2: prompt_tokens = '10.5' is not a length"),
        ("0,nan,5\n", r"line 2: prompt_tokens = 'nan' is not finite"),
        ("0,10,5\n0,1,5\n0,inf,5\n", r"line 4: prompt_tokens = 'inf' is not finite"),
        ("0,ten,5\n", r"line 2: prompt_tokens = 'ten' is not a number"),
        ("0,,5\n", r"line 2: prompt_tokens = '' is not a number"),
        ("0,1e12,5\n", r"line 2: prompt_tokens = '1e12' is not a length"),
        ("-1,10,5\n", r"line 2: arrival_s = '-1' is negative; shift times"),
        ("inf,10,5\n", r"line 2: arrival_s = 'inf' is not finite"),
        ("2,10,5\n\n1,10,5\n", r"line 4: arrival_s = '1' is earlier than '2' on line 2.*sort=True"),
        ("", r"has a header but no rows"),
    ],
)
def test_bad_rows(write, rows, message):
    path = write(PLAIN + rows, "bad.csv")
    with pytest.raises(TraceError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value) and isinstance(caught.value, ValueError)


def test_bad_files(write, tmp_path):
    with pytest.raises(TraceError, match="empty"):
        read(write(""))
    with pytest.raises(TraceError, match=r"no\.csv: cannot be opened"):
        read(tmp_path / "no.csv")
    with pytest.raises(TraceError, match=r"a, b belong to no known trace format.*rename"):
        read(write("a,b\n1,2\n"))
    with pytest.raises(TraceError, match=r"column 'GeneratedTokens' is missing.*add it"):
        read(write("TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,374\n"), format="azure")
    with pytest.raises(TraceError, match="unknown trace format 'azur'; choose one of auto, azure"):
        read(write(PLAIN), format="azur")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"line 2: '\{' is not a JSON object"),
        ("[1]", r"line 2: .* not a JSON object"),
        (
            '{"timestamp": 0, "input_length": 9, "output_length": 1}',
            "line 2: field 'hash_ids' is missing",
        ),
        (json.dumps(mooncake(0, None, [])), "line 2: input_length = None"),
        (
            json.dumps(mooncake(0, 600, [1, 2, 3])),
            "line 2: hash_ids = .* has 3 ids, but .* 2 blocks",
        ),
        (json.dumps(mooncake(0, 600, ["a"])), "line 2: hash_ids = .* not a list of whole numbers"),
        (json.dumps(mooncake(0, 600, 4)), "line 2: hash_ids = '4' is not a list"),
        (json.dumps(mooncake(-5, 600, [1])), "line 2: timestamp = -5 is negative"),
    ],
)
def test_bad_json_lines(write, row, message):
    with pytest.raises(TraceError, match=message):
        read(write(json.dumps(mooncake(1, 600, [0, 1])) + "\n" + row), sort=True)


@pytest.mark.parametrize("last", [2, 3])
def test_a_chat_that_is_its_own_ancestor_is_refused(write, last):
    """A cycle that the walk starts in, and one that it runs into."""
    rows = [
        bailian(1, 2, 0.0, 16, [7]),
        bailian(2, 3, 1.0, 16, [7]),
        bailian(3, last, 2.0, 16, [7]),
    ]
    with pytest.raises(TraceError, match=r"line \d: parent_chat_id = \d is its own ancestor"):
        read(write(rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress((PLAIN + "0,10,5\n" * 50).encode(), mtime=0)[:-12], "cut short or damaged"),
        ((PLAIN + "0,10,5\n# caf\xe9,1,1\n").encode("latin1"), "line 3: .* is not UTF-8"),
        ((PLAIN + "0,10," + "9" * 140_000).encode(), "line 2: is no line of CSV"),
        (b"arrival_s,prompt_tokens,output_tokens,prompt_tokens\n0,1,1,2\n", "twice"),
        ((PLAIN + "1e300,10,5\n").encode(), "line 2: arrival_s = '1e300' is no time"),
        ((AZURE + "9999-11-16 18:15:46,374,44\n").encode(), "'9999-11-16 18:15:46' is not a UTC"),
        (b'{"timestamp": 1, "timestamp": 2}\n', "'timestamp' stands there twice"),
        (b'{"a": ' + b"[" * 100_000, "line 1: .* is not a JSON object"),
    ],
)
def test_damaged_files_are_named_with_the_line(tmp_path, content, message):
    path = tmp_path / "trace.txt"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 600


def test_bounds_of_outputs_are_stated_or_follow_from_the_trace(write):
    header = "arrival_s,prompt_tokens,output_tokens"
    stated = read(write(header + ",max_tokens\n2,10,5,8\n1,20,7,7\n"), sort=True)
    assert stated.max_tokens.tolist() == [7, 8] and stated.max_tokens.dtype == np.int32
    # longest output 60, longest request 110 tokens
    other = read(write(header + "\n0,10,60\n0,100,10\n0,80,2\n"))
    assert other.max_tokens.tolist() == [60, 10, 30]
    assert window(other, 1, 2).max_tokens.tolist() == [10, 30]
    huge = read(write(header + f"\n0,{2**31 - 1},{2**31 - 1}\n0,1,1\n"))
    assert huge.max_tokens.tolist() == [2**31 - 1] * 2


def test_bad_optional_columns(write):
    header = "arrival_s,prompt_tokens,output_tokens,"
    with pytest.raises(
        TraceError, match=r"line 3: max_tokens = .*4.* is below the 5 tokens of out"
    ):
        read(write(header + "max_tokens\n0,1,5,9\n0,1,5,4\n"))
    with pytest.raises(TraceError, match=r"line 2: max_tokens = '' is not a number"):
        read(write(header + "max_tokens\n0,1,5,\n"))
    with pytest.raises(TraceError, match=r"line 2: priority = .* out of range"):
        read(write(header + "priority\n0,1,1,1.5\n"))
    with pytest.raises(TraceError, match="column 'prefix_block_tokens' is missing"):
        read(write(header + "prefix_ids\n0,9,9,1\n"))
    with pytest.raises(TraceError, match=r"line 3: prefix_block_tokens = .* differs from 8"):
        read(write(header + "prefix_ids,prefix_block_tokens\n0,9,9,1,8\n0,9,9,1,4\n"))
    with pytest.raises(TraceError, match="line 2: prefix_ids = '1 x' is unreadable"):
        read(write(header + "prefix_ids,prefix_block_tokens\n0,9,9,1 x,8\n"))
    with pytest.raises(TraceError, match="line 1: parent_chat_id = 2 is its own ancestor"):
        read(write([bailian(1, 2, 0, 16, [1]), bailian(2, 1, 1, 16, [1])]))


def test_sort_is_stable(write):
    stream = read(write(PLAIN + "2,1,1\n1,2,1\n2,3,1\n1,4,1\n"), sort=True)
    assert stream.prompt_tokens.tolist() == [2, 4, 1, 3]


def test_bom_and_gzip(write):
    text = "\ufeff" + PLAIN + "0,5,6\n"
    assert read(write(text)).prompt_tokens[0] == read(write(text, "t.csv.gz")).prompt_tokens[0] == 5


# --- the real slices -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format", "rows", "mean_prompt"),
    [
        (
            "traces/azure-llm-2023/AzureLLMInferenceTrace_conv_first42min.csv",
            "azure",
            14864,
            1178.1,
        ),
        ("traces/azure-llm-2023/AzureLLMInferenceTrace_code_first42min.csv", "azure", 7519, 2041.4),
        (
            "traces/mooncake-fast25/conversation_trace_first70pct.jsonl.gz",
            "mooncake",
            8292,
            12341.0,
        ),
        ("traces/mooncake-fast25/synthetic_trace_first70pct.jsonl.gz", "mooncake", 2730, 13345.0),
        ("perf/peer_workloads/W8_10k_r24.csv.gz", "plain", 10000, 891.0001),
        ("perf/peer_workloads/W8_1k_r6.csv.gz", "plain", 1000, 881.199),
    ],
)
def test_real_slice(data_dir, name, format, rows, mean_prompt):
    """Counts of the READMEs, means of fits.json and of the workload table."""
    stream = read(data_dir / name)
    assert detect(data_dir / name) == format and len(stream) == rows
    assert stream.prompt_tokens.mean() == pytest.approx(mean_prompt, rel=1e-4)
    assert np.all(np.diff(stream.arrival_s) >= 0) and stream.arrival_s[0] >= 0


def test_real_prefix_hits(data_dir):
    """Ideal hit share of tokens in Mooncake's conversation trace (fits.json: 0.35833)."""
    path = data_dir / "traces/mooncake-fast25/conversation_trace_first70pct.jsonl.gz"
    stream = read(path)
    shared = shared_only(stream)
    share = hit_tokens(stream).sum() / stream.prompt_tokens.sum()
    assert share == pytest.approx(0.35833, abs=0.002)
    assert hit_tokens(shared).sum() == hit_tokens(stream).sum()
    assert len(shared.prefix_ids) < 0.6 * len(stream.prefix_ids)


def test_real_end_to_end_workload(data_dir):
    folder = data_dir / "perf/llmservingsim/e2e/workloads"
    stream = read(folder / "sharegpt-llama-3.1-8b-300-sps10.csv.gz")
    assert len(stream) == 300 and stream.prefix_block_tokens == 16
    assert stream.arrival_s[0] == 0.046926808
    assert np.array_equal(np.diff(stream.prefix_offsets), stream.prompt_tokens // 16)


def test_real_servegen(data_dir):
    """Rate near the mean that fits.json has for this model."""
    path = data_dir / "traces/servegen/deepseek-r1_client_windows.csv.gz"
    stream = read(path, duration_s=1800.0)
    assert len(stream) / 1800.0 == pytest.approx(14.6, rel=0.5)
    assert stream.output_tokens.mean() > stream.prompt_tokens.mean() * 0.5
