"""Profiles of gangs against the patterns that they stand for, enumerated rank by rank."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.envs.hardware.catalogue import gpu, model, model_names
from gpuyard.envs.perf.network import internode
from gpuyard.envs.perf.network.internode import Network
from gpuyard.envs.perf.training import patterns, profiles, training, vclos
from gpuyard.envs.perf.training.communication import communications
from gpuyard.envs.perf.training.gang_layout import USABLE, default_job, memory_bytes
from gpuyard.envs.perf.training.gang_phases import CHAIN, CYCLIC, XOR, spaced
from gpuyard.envs.perf.training.gang_profile import communication_s, names, profile, speed
from gpuyard.envs.perf.training.training_job import Layout, TrainingJob

H100 = (8, 50e9, 450e9, gpu("H100-SXM"))
STUDY = (4, 12.5e9, 125e9, gpu("V100-32"))  # 4 GPUs a server, 100 Gbit/s, 1000 Gbit/s inside


def ideal_s(job, site):
    """Seconds of an iteration on full, quiet nodes: the rule of GangProfile, spelled out."""
    return job.compute_s + max(0.0, communication_s(job, *site[:3]) - job.hidden_s)


def enumerated(phase, gpus):
    """Flows of a phase as (src, dst), straight from the definition of Phase."""
    found = []
    for rank in range(gpus):
        group, offset = divmod(rank, phase.ranks * phase.stride)
        place, rest = divmod(offset, phase.stride)
        if phase.mode == CYCLIC:
            other = (place + phase.shift) % phase.ranks
        elif phase.mode == XOR:
            other = place ^ phase.shift
        else:
            assert phase.mode == CHAIN
            other = place + phase.shift
            if not 0 <= other < phase.ranks:
                continue
        if other != place:
            found.append((rank, (group * phase.ranks + other) * phase.stride + rest))
    return found


def pair_bytes(flows):
    """Bytes of every (src, dst) of patterns.Step."""
    total = defaultdict(float)
    for step in flows:
        for src, dst in zip(step.src.tolist(), step.dst.tolist(), strict=True):
            total[src, dst] += step.size_bytes * step.repeat
    return dict(total)


def sent_bytes(job, node_gpus):
    """Bytes that each rank sends inside and out of its node, from the phases of a profile."""
    inside, outside = np.zeros(job.gpus), np.zeros(job.gpus)
    for phase in job.phases:
        for src, dst in enumerated(phase, job.gpus):
            (outside if src // node_gpus != dst // node_gpus else inside)[src] += phase.bytes
    return inside, outside


# --- phases --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["Llama-3-8B", "GPT-3-175B", "Mixtral-8x7B", "VGG-16"]),
    nodes=st.sampled_from([1, 2, 3, 4, 8, 16]),
)
def test_flows_are_those_of_the_definition(name, nodes):
    try:
        job = profile(name, 8 * nodes, *H100)
    except ValueError:  # does not fit
        return
    for phase in job.phases:
        src, dst = phase.flows(job.gpus)
        assert list(zip(src.tolist(), dst.tolist(), strict=True)) == enumerated(phase, job.gpus)


@pytest.mark.parametrize(
    ("name", "gpus"),
    [
        ("Llama-3-8B", 64),
        ("Llama-3-70B", 64),
        ("GPT-3-175B", 256),
        ("Mixtral-8x7B", 64),
        ("DeepSeek-V3", 512),
    ],
)
def test_bytes_of_language_models_are_those_of_their_patterns(name, gpus):
    job = profile(name, gpus, *H100)
    network = Network(50e9, 8)
    inside, outside = np.zeros(gpus), np.zeros(gpus)
    for part in communications(default_job(model(name), gpus, 8, gpu("H100-SXM")), network):
        per_call = pair_bytes(part.flows())
        for ranks in part.members(gpus):
            for (i, j), size in per_call.items():
                if part.axis == "pp":
                    size /= 2  # calls count both ways
                src, dst = ranks[i], ranks[j]
                (outside if src // 8 != dst // 8 else inside)[src] += part.calls * size
    mine, mine_out = sent_bytes(job, 8)
    # rings: bytes of patterns differ rank by rank only where the ring has an odd number of nodes
    assert mine_out == pytest.approx(outside, rel=1e-9)
    assert mine.sum() == pytest.approx(inside.sum(), rel=1e-9)


@pytest.mark.parametrize("gpus", [2, 4, 8, 16, 48, 64])
def test_data_parallel_bytes_are_those_of_the_ring(gpus):
    job = profile("VGG-16", gpus, *H100)
    where = internode.group(gpus, 1, Network(50e9, 8))
    size = profiles.profile("VGG-16", gpu("H100-SXM")).gradient_bytes
    flows = patterns.steps("all_reduce", "ring", size, where)
    inside, outside = sent_bytes(job, 8)
    assert (inside + outside).sum() == pytest.approx(patterns.sent_bytes(flows, where).sum())
    assert outside == pytest.approx(patterns.sent_bytes(flows, where, between_nodes=True))


@pytest.mark.parametrize("gpus", [4, 16, 64, 256])
def test_halving_doubling_has_the_partners_and_shares_of_the_pattern(gpus):
    job = profile("vclos/VGG16-b4/halving_doubling", gpus, *STUDY)
    where = internode.group(gpus, 1, Network(12.5e9, 4))
    unit = pair_bytes(patterns.steps("all_reduce", "halving_doubling", 1.0, where))
    mine = defaultdict(float)
    for phase in job.phases:
        for pair in enumerated(phase, gpus):
            mine[pair] += phase.bytes
    assert mine.keys() == unit.keys()
    scale = job.phases[0].bytes / unit[0, 1]
    assert all(mine[pair] == pytest.approx(scale * unit[pair]) for pair in unit)


def test_a_short_pairwise_exchange_is_complete_and_a_long_one_is_sampled():
    short = profile("vclos/Pangu/pairwise", 8, *STUDY)
    assert [phase.shift for phase in short.phases] == list(range(1, 8))
    long = profile("vclos/Pangu/pairwise", 512, *STUDY)
    assert len(long.phases) == 8
    # the bytes of 511 steps; one sample from each eighth, not all at one slot of other servers
    whole = 0.3477 * 12.5e9
    assert sum(phase.bytes for phase in long.phases) == pytest.approx(whole)
    shifts = [phase.shift for phase in long.phases]
    assert [(shift - 1) * 8 // 511 for shift in shifts] == list(range(8))
    assert len({shift % 4 for shift in shifts}) > 2


@given(count=st.integers(0, 3000), most=st.integers(1, 8))
def test_spaced_numbers_are_distinct_and_in_range(count, most):
    found = spaced(count, most)
    assert len(found) == len(set(found)) == min(count, most)
    assert all(1 <= k <= count for k in found)


def test_no_profile_has_more_than_eight_phases():
    for name in names():
        for gpus in (8, 64, 512, 4096):
            try:
                job = profile(name, gpus, *H100)
            except ValueError:
                continue
            assert len(job.phases) <= 8
            assert all(phase.bytes > 0 for phase in job.phases)
            assert all(gpus % (phase.ranks * phase.stride) == 0 for phase in job.phases)


# --- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Llama-2-7B", "Llama-3-70B", "GPT-3-175B", "Qwen3-30B-A3B"])
@pytest.mark.parametrize(
    ("gpus", "site"),
    [
        (8, H100),
        (64, H100),
        (512, H100),
        (96, H100),
        (1024, (8, 25e9, 300e9, gpu("A100-80"))),
        (72, (72, 50e9, 900e9, gpu("GB200-NVL72"))),
        (144, (72, 50e9, 900e9, gpu("GB200-NVL72"))),
        (256, (4, 12.5e9, 125e9, gpu("V100-32"))),
    ],
)
def test_an_iteration_alone_takes_what_the_training_model_says(name, gpus, site):
    try:
        job = profile(name, gpus, *site)
    except ValueError as error:
        assert "GiB" in str(error)
        return
    network = Network(site[1], site[0])
    expected = training.iteration(default_job(model(name), gpus, site[0], site[3]), network).total_s
    assert ideal_s(job, site) == pytest.approx(expected, rel=1e-9)
    assert 0 <= job.hidden_s <= job.compute_s


@pytest.mark.parametrize("name", profiles.models())
@pytest.mark.parametrize("gpus", [1, 2, 8, 12, 32])
@pytest.mark.parametrize("site", [H100, (8, 12.5e9 / 8, 150e9, gpu("V100-32"))])
def test_a_data_parallel_step_alone_takes_what_its_profile_says(name, gpus, site):
    job = profile(name, gpus, *site)
    node = site[0] if gpus != 12 else 4  # 8 + 4 GPUs: rings of 4 rails
    expected, _ = profiles.step_s(profiles.profile(name, site[3]), gpus, Network(site[1], node))
    assert ideal_s(job, site) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("pattern", "gpus"),
    [
        ("halving_doubling", 8),
        ("halving_doubling", 512),
        ("ring", 192),
        ("ring", 4),
        ("pairwise", 4),
        ("pairwise", 64),
        ("pairwise", 512),
    ],
)
def test_jobs_of_the_study_last_a_second_and_carry_its_message(pattern, gpus):
    share = 0.16
    job = profile(f"vclos/VGG16-b16/{pattern}", gpus, *STUDY)
    assert job.compute_s == pytest.approx(1 - share)
    assert communication_s(job, *STUDY[:3]) == pytest.approx(share)
    message = share / vclos.unit_time_s(pattern, gpus, 4, 125e9, 12.5e9)
    sent = sum(phase.bytes for phase in job.phases)
    per_message = {
        "halving_doubling": 2 * (1 - 1 / gpus),
        "ring": (gpus - 1) / gpus if gpus <= 4 else 2 * 3 / 4 + 1 / 4,
        "pairwise": gpus - 1,
    }[pattern]
    assert sent == pytest.approx(message * per_message)


def test_contention_stretches_what_crosses_the_fabric_only():
    job = profile("Llama-3-70B", 512, *H100)
    network = Network(50e9, 8)
    times = training.iteration(default_job(model("Llama-3-70B"), 512, 8, gpu("H100-SXM")), network)
    outside = sum(p.bytes for p in job.phases if p.stride > 1) / 50e9
    half = (8, 25e9, 450e9)
    slower = job.compute_s + max(0.0, communication_s(job, *half) - job.hidden_s)
    assert slower - times.total_s == pytest.approx(outside)  # nothing was left to hide it


def test_spare_overlap_hides_contention_first():
    job = profile("ResNet-50", 16, *H100)
    base = ideal_s(job, H100)
    assert job.hidden_s > communication_s(job, *H100[:3])
    assert job.compute_s == base
    assert job.compute_s + max(0.0, communication_s(job, 8, 45e9, 450e9) - job.hidden_s) == base


# --- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gpus", "layout"),
    [  # hand-checked: the least model parallelism that leaves room for 34 s b h / tp per layer
        ("GPT-2-XL", 16, Layout(dp=16)),
        ("Llama-3-8B", 64, Layout(dp=64)),
        ("Llama-3-70B", 512, Layout(dp=64, tp=8)),
        ("Llama-3-405B", 1024, Layout(dp=8, tp=8, pp=16)),
        ("Mixtral-8x7B", 64, Layout(dp=64, ep=8)),
        ("DeepSeek-V3", 512, Layout(dp=32, pp=16, ep=8)),
    ],
)
def test_default_layouts(name, gpus, layout):
    assert default_job(model(name), gpus, 8, gpu("H100-SXM")).layout == layout


def test_memory_by_hand():
    llama = TrainingJob(gpu("H100-SXM"), model("Llama-3-8B"), Layout(dp=8, tp=8), 64, 64, 4096)
    params = 8.03e9 / 8
    states = (6 + 12 / 8) * params
    activations = 34 * 4096 * 4096 * 32 / 8
    logits = 6 * 4096 * 128256 / 8
    assert memory_bytes(llama) == pytest.approx(states + activations + logits, rel=1e-3)


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("gpus", [8, 24, 128, 1024])
def test_layouts_fit_or_are_refused(name, gpus):
    for node, device in ((8, "H100-SXM"), (4, "V100-32")):
        try:
            job = default_job(model(name), gpus, node, gpu(device))
        except ValueError as error:
            assert "GiB" in str(error) and "smaller model" in str(error)
            continue
        assert job.layout.gpus == gpus
        assert job.layout.tp * job.layout.ep <= node
        assert memory_bytes(job) <= USABLE * gpu(device).memory_bytes


# --- speed on other GPUs -------------------------------------------------------------------------


def test_speed_follows_the_hardware_and_the_memory():
    job = profile("GPT-2-XL", 16, *H100)
    assert speed(job, gpu("H100-SXM")) == 1.0
    # 312 x 0.662 of 989 x 0.626 TFLOP/s, elementwise kernels by bandwidth
    assert 312 * 0.662 / (989.4 * 0.626) <= speed(job, gpu("A100-80")) <= 2039 / 3350
    assert speed(job, gpu("B200-SXM")) > 1.5
    assert speed(profile("Llama-3-8B", 64, *H100), gpu("T4")) == 0.0  # 66 GiB a GPU


def test_speed_of_measured_networks_is_the_ratio_of_their_rates():
    job = profile("ResNet-50", 8, 8, 25e9, 300e9, gpu("A100-80"))
    assert speed(job, gpu("V100-32")) == pytest.approx(1156 / 2470)
    assert speed(profile("vclos/Pangu/pairwise", 8, *STUDY), gpu("A100-80")) == pytest.approx(
        312 / 125
    )


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("Lama-3-8B", 8, "unknown job profile 'Lama-3-8B': did you mean"),
        ("vclos/VGG17-b16/ring", 8, "unknown job 'vclos/VGG17-b16/ring'"),
        ("vclos/VGG16-b16/star", 8, "unknown pattern in .*use one of halving_doubling, ring"),
        ("vclos/VGG16-b16/halving_doubling", 24, "gpus = 24: halving_doubling needs a power"),
        ("VGG-16", 0, "gpus = 0: give at least 1"),
        ("DeepSeek-V3", 8, "at least .* GiB a GPU, of which it has 79; give more GPUs"),
    ],
)
def test_jobs_that_cannot_be_are_refused(name, gpus, message):
    with pytest.raises(ValueError, match=message):
        profile(name, gpus, *H100)


def test_one_gpu_does_not_communicate():
    for name in ("ResNet-50", "GPT-2", "vclos/ResNet50-b16/ring"):
        job = profile(name, 1, *H100)
        assert job.phases == ()
        assert math.isfinite(job.compute_s) and job.compute_s > 0
