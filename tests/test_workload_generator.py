"""Generated streams: their invariants, their steady state and their distance to the traces."""

import os
import subprocess
import sys
import zlib
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.envs.workload.requests.generator import Generator
from gpuyard.envs.workload.requests.parameters import (
    KNOTS_P,
    Bursts,
    Clients,
    Conversation,
    Modulation,
)
from gpuyard.envs.workload.requests.prefix import hit_tokens, shared_only
from gpuyard.envs.workload.requests.presets import PRESETS, fits, hour_profile, preset
from gpuyard.envs.workload.requests.readers import read

KNOTS = tuple(np.geomspace(10, 2000, len(KNOTS_P)).tolist())
TALK = Conversation((0.5, 0.7), KNOTS, 1.0, 1.0, reply_token_s=0.01, edit_prob=0.3)
POISSON = Generator(KNOTS, KNOTS, rate_per_s=10.0)
SESSIONS = replace(
    POISSON,
    conversation=TALK,
    clients=Clients(5, 1.0, 0.3, 0.8, 0.4, system_tokens=300, system_sigma=0.5),
    modulation=Modulation(0.3, 0.5, 5.0, (1.0, 2.0)),
    urgent_share=0.25,
)


def sample(generator, seed=0, n=512):
    return generator.sample(np.random.default_rng(seed), n)


def same(a, b):
    return all(
        np.asarray(getattr(a, f.name)).tobytes() == np.asarray(getattr(b, f.name)).tobytes()
        for f in fields(a)
    )


def distance(a, b):
    at = np.concatenate([a, b])
    below = [np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (a, b)]
    return np.abs(below[0] - below[1]).max()


# --- invariants ----------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 200),
    name=st.sampled_from([*PRESETS, "sessions"]),
    max_tokens=st.integers(16, 20_000),
    ids=st.integers(0, 12),
)
@settings(deadline=None, max_examples=150)
def test_invariants(seed, n, name, max_tokens, ids):
    base = SESSIONS if name == "sessions" else preset(name)
    generator = replace(base, max_tokens=max_tokens, max_ids_per_request=ids)
    stream = sample(generator, seed, n)
    assert len(stream) == n
    assert stream.arrival_s[0] > 0 and np.all(np.diff(stream.arrival_s) >= 0)
    assert np.all(np.isfinite(stream.arrival_s))
    assert min(stream.prompt_tokens.min(), stream.output_tokens.min()) >= 1
    total = stream.prompt_tokens.astype(int) + stream.output_tokens
    assert total.max() <= max_tokens
    bound = stream.max_tokens.astype(int)
    assert np.all(bound >= stream.output_tokens) and stream.max_tokens.dtype == np.int32
    room, longest = max_tokens - stream.prompt_tokens, int(np.ceil(generator.output[-1]))
    assert np.array_equal(bound, np.minimum(room, longest))  # of the prompt and the preset alone
    counts = np.diff(stream.prefix_offsets)
    if stream.prefix_block_tokens:
        assert np.all(counts * stream.prefix_block_tokens <= total)
    assert stream.prefix_offsets[0] == 0 and stream.prefix_offsets[-1] == len(stream.prefix_ids)
    assert set(stream.prefix_ids.tolist()) == set(range(stream.prefix_ids.max(initial=-1) + 1))
    assert stream.prefix_ids.max(initial=-1) < max(generator.max_prefix_ids(n), 1)
    assert [c.dtype for c in (stream.arrival_s, stream.prompt_tokens, stream.prefix_ids)] == [
        np.float64,
        np.int32,
        np.int32,
    ]


@given(seed=st.integers(0, 2**32), n=st.integers(2, 300), ids=st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_equal_ids_mean_equal_prefixes_and_only_shared_ones_remain(seed, n, ids):
    stream = sample(replace(SESSIONS, max_ids_per_request=ids), seed, n)
    paths = {}
    for begin, end in pairwise(stream.prefix_offsets):
        path = stream.prefix_ids[begin:end].tolist()
        for j, name in enumerate(path):
            assert paths.setdefault(name, path[: j + 1]) == path[: j + 1]
    assert same(shared_only(stream), stream)


def test_conversations_share_their_history():
    """Without edits each turn begins with all of the last one, output included."""
    stream = sample(replace(SESSIONS, conversation=replace(TALK, edit_prob=0.0)), 3, 400)
    cuts, block = stream.prefix_offsets, stream.prefix_block_tokens
    full = 0
    for session in range(stream.session.max() + 1):
        for a, b in pairwise(np.flatnonzero(stream.session == session)):
            whole = (stream.prompt_tokens[a] + stream.output_tokens[a]) // block
            mine, theirs = (stream.prefix_ids[cuts[i] : cuts[i + 1]].tolist() for i in (a, b))
            if stream.prompt_tokens[b] > stream.prompt_tokens[a]:  # else history was dropped
                full += mine[:whole] == theirs[:whole] and len(mine) >= whole
                assert mine[:whole] == theirs[:whole] or len(mine) < whole
    assert full > 50


def test_clients_share_their_system_prompt():
    """Conversations of one client share its system prompt and nothing else."""
    clients = Clients(count=1, system_tokens=640)
    once = replace(TALK, continue_prob=(0.0,))
    stream = sample(replace(POISSON, clients=clients, conversation=once), n=100)
    assert np.array_equal(np.diff(stream.prefix_offsets), np.full(100, 10))
    assert set(stream.prefix_ids.tolist()) == set(range(10))
    assert hit_tokens(stream)[1:].min() == 640


def test_single_requests_have_no_session_and_no_prefix():
    stream = sample(POISSON)
    assert np.all(stream.session == -1) and stream.prefix_block_tokens == 0
    assert len(stream.prefix_ids) == POISSON.max_prefix_ids(512) == 0
    assert np.all(stream.priority == 0)


def test_priority_belongs_to_the_conversation():
    stream = sample(SESSIONS, n=4000)
    pairs = np.unique(np.stack([stream.session, stream.priority]), axis=1)
    assert pairs.shape[1] == stream.session.max() + 1
    assert pairs[1].mean() == pytest.approx(0.25, abs=0.05)


# --- determinism ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_same_seed_same_bytes(name):
    assert same(sample(preset(name), 5), sample(preset(name), 5))
    assert not same(sample(preset(name), 5), sample(preset(name), 6))


def test_same_bytes_in_another_process_and_without_the_compiler():
    code = (
        "import numpy as np, zlib; from gpuyard.envs.workload.requests.presets import preset;"
        "s = preset('chat').sample(np.random.default_rng(0), 300);"
        "print([zlib.crc32(c.tobytes()) for c in (s.arrival_s, s.prompt_tokens, s.prefix_ids)])"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    root = Path(__file__).resolve().parents[1]
    outputs = [
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=root,
            env=os.environ | {"NUMBA_DISABLE_JIT": off},
        ).stdout
        for off in ("0", "1")
    ]
    stream = sample(preset("chat"), 0, 300)
    columns = (stream.arrival_s, stream.prompt_tokens, stream.prefix_ids)
    assert outputs == [f"{[zlib.crc32(column.tobytes()) for column in columns]}\n"] * 2


def test_a_stream_does_not_depend_on_the_ones_before():
    rng = np.random.default_rng(1)
    sample(preset("azure-code"), 9)
    first = preset("azure-code").sample(rng, 50)
    generator = preset("azure-code")
    generator.sample(np.random.default_rng(2), 50)
    assert same(generator.sample(np.random.default_rng(1), 50), first)


# --- steady state --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chat", "azure-conv", "azure-code", "mooncake-conv"])
def test_rate_holds_from_the_first_second(name):
    """Mean count of the first short window over many seeds, against the rate."""
    generator = preset(name)
    span_s = 256 / generator.rate_per_s
    counts = [np.searchsorted(sample(generator, i, 2048).arrival_s, span_s) for i in range(200)]
    error = np.std(counts) / np.sqrt(len(counts))
    assert np.mean(counts) == pytest.approx(256, abs=4 * error + 3)


@pytest.mark.parametrize(
    ("clients", "cv"),
    [
        (Clients(), 1.0),
        (Clients(cv_mu=np.log(2.0)), 2.0),
        (Clients(cv_mu=np.log(0.5)), 0.5),
        (Clients(cv_mu=np.log(3.0), weibull_share=1.0), 3.0),
    ],
)
def test_one_client_has_the_cv_it_was_given(clients, cv):
    gaps = np.diff(sample(replace(POISSON, clients=clients), n=200_000).arrival_s)
    assert gaps.mean() == pytest.approx(0.1, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_hour_profile_shapes_the_rate():
    """Two hours, the second three times as busy: counts 1 to 3 from a fixed start."""
    modulation = Modulation(hour_profile=(1.0, 3.0), start_hour=0.0)
    stream = sample(replace(POISSON, modulation=modulation, rate_per_s=2.0), n=20_000)
    first, second = np.histogram(stream.arrival_s, [0, 3600, 7200])[0]
    assert first == pytest.approx(3600, abs=4 * 3600**0.5)  # four Poisson deviations
    assert second == pytest.approx(10_800, abs=4 * 10_800**0.5)


def test_urgent_cap_and_lengths_follow_the_knots():
    stream = sample(replace(POISSON, max_tokens=10**6), n=50_000)
    for tokens in (stream.prompt_tokens, stream.output_tokens):
        got = np.quantile(tokens, KNOTS_P[5:-3])
        assert got == pytest.approx(np.array(KNOTS[5:-3]), rel=0.06)


# --- bad parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(POISSON, rate_per_s=0.0), r"Generator.rate_per_s = 0.0 is out of range"),
        (lambda: replace(POISSON, max_tokens=3), r"Generator.max_tokens = 3 is out of range"),
        (lambda: replace(POISSON, prompt=(1.0,)), r"Generator.prompt must be 30 non-decreasing"),
        (lambda: Clients(count=0), r"Clients.count = 0"),
        (lambda: Modulation(ar1=1.0), r"Modulation.ar1 = 1.0"),
        (lambda: Modulation(hour_profile=(0.0,)), r"Modulation.hour_profile"),
        (lambda: replace(TALK, continue_prob=(1.0,)), r"the last one below 1"),
        (lambda: replace(TALK, think_sigma=float("nan")), r"Conversation.think_sigma = nan"),
        (lambda: Bursts(1, 1, 0, 1, 1, 1, 1, 0, 1, 1), r"Bursts.size_max = 0"),
        (lambda: preset("chatt"), r"unknown workload generator 'chatt'; choose one of chat"),
        (lambda: preset("chat", rate=3), r"'chat' has no field 'rate'; choose from prompt"),
        (lambda: preset("chat", clients={"n": 3}), r"'chat', clients has no field 'n'; choose"),
        (lambda: preset("azure-conv", bursts={"n": 3}), r"'azure-conv', bursts: .*'n'"),
        (lambda: preset("chat", prompt="x"), r"unknown length sketch 'x'; choose one of azure"),
        (lambda: hour_profile("x"), r"unknown hour profile 'x'; choose one of azure"),
        (lambda: sample(POISSON, 0, 0), r"num_requests = 0"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_preset_takes_what_a_scenario_file_can_say():
    changed = preset(
        "chat",
        clients={"count": 3, "zipf": 0.5},
        modulation={"hour_profile": "azure-code-weekday", "log_sd": 0.1},
        prompt="azure-conv-prompt",
        conversation={"continue_prob": [0.5, 0.6]},
    )
    assert (changed.clients.count, changed.clients.cv_mu) == (3, preset("chat").clients.cv_mu)
    assert changed.modulation.hour_profile == hour_profile("azure-code-weekday")
    assert changed.prompt == preset("azure-conv").prompt
    assert changed.mean_turns == pytest.approx(1 + 0.5 / 0.4)
    assert sample(changed).prefix_block_tokens == 128


def test_every_fit_names_its_source():
    entries = [(kind, name, fit) for kind, group in fits().items() for name, fit in group.items()]
    assert len(entries) > 15
    assert all(len(fit["source"]) > 10 for _, _, fit in entries)


# --- against the traces --------------------------------------------------------------------------

CONV = "traces/azure-llm-2023/AzureLLMInferenceTrace_conv_first42min.csv"
CODE = "traces/azure-llm-2023/AzureLLMInferenceTrace_code_first42min.csv"
MOONCAKE = "traces/mooncake-fast25/conversation_trace_first70pct.jsonl.gz"


@pytest.mark.parametrize(
    ("name", "trace", "ks_prompt", "ks_output", "ks_gaps", "cv"),
    [
        ("azure-conv", CONV, 0.03, 0.025, 0.03, 0.08),
        ("azure-code", CODE, 0.02, 0.025, 0.11, 0.15),
        ("mooncake-conv", MOONCAKE, 0.04, 0.015, 0.02, 0.05),
    ],
)
def test_close_to_the_trace(data_dir, name, trace, ks_prompt, ks_output, ks_gaps, cv):
    """Distances as in docs/workloads.md, with some room for the seed."""
    real = read(data_dir / trace)
    generator = replace(preset(name), max_tokens=2**20)
    made = [sample(generator, seed, len(real)) for seed in range(6)]
    prompts = np.concatenate([stream.prompt_tokens for stream in made])
    outputs = np.concatenate([stream.output_tokens for stream in made])
    gaps = np.concatenate([np.diff(stream.arrival_s) for stream in made])
    assert distance(real.prompt_tokens, prompts) < ks_prompt
    assert distance(real.output_tokens, outputs) < ks_output
    real_gaps = np.diff(real.arrival_s)
    assert distance(real_gaps, gaps) < ks_gaps
    assert gaps.std() / gaps.mean() == pytest.approx(real_gaps.std() / real_gaps.mean(), rel=cv)
    for window_s, tolerance in ((10.0, 0.4), (60.0, 0.4)):
        dispersion = [
            (
                c := np.histogram(
                    s.arrival_s, np.arange(s.arrival_s[0], s.arrival_s[-1], window_s)
                )[0]
            ).var()
            / c.mean()
            for s in (real, *made)
        ]
        assert np.mean(dispersion[1:]) == pytest.approx(dispersion[0], rel=tolerance)


def test_mooncake_prefix_hits(data_dir):
    """Share of prompt tokens that an unbounded cache of prompt blocks hits: 0.358 in the trace."""
    real = read(data_dir / MOONCAKE)
    shares = []
    for stream in (real, *(sample(preset("mooncake-conv"), seed, len(real)) for seed in range(4))):
        cuts, most = stream.prefix_offsets, stream.prompt_tokens // 512
        keep = np.concatenate(
            [np.arange(b - a) < m for (a, b), m in zip(pairwise(cuts), most, strict=True)]
        )
        counts = np.minimum(np.diff(cuts), most)
        cut = replace(
            stream,
            prefix_offsets=np.append(0, np.cumsum(counts)),
            prefix_ids=stream.prefix_ids[keep],
        )
        shares.append(hit_tokens(cut).sum() / stream.prompt_tokens.sum())
    assert shares[0] == pytest.approx(0.358, abs=0.002)
    assert np.mean(shares[1:]) == pytest.approx(shares[0], abs=0.03)
