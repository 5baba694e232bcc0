"""How close the fitted generators of jobs come to the traces; `--fit` prints the fits.

Prints one row per preset and statistic, trace against generator, and ends with one line of JSON.
With `--fit` it prints envs/workload/jobs/fits.toml instead. Needs the traces: set GPUYARD_DATA to
the folder of the measured data (default ../shared/data).
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard.envs.workload.jobs.durations import lognormal_mixture  # noqa: E402
from gpuyard.envs.workload.jobs.presets import preset  # noqa: E402
from gpuyard.envs.workload.jobs.readers import read  # noqa: E402

TRACES = Path(os.environ.get("GPUYARD_DATA", ROOT.parent / "shared" / "data")) / "traces"
HOUR, DAY = 3600.0, 86_400.0
SEED, SAMPLE = 0, 200_000
COMPONENTS = 4  # of a mixture of log-normals: more come hardly closer


@dataclass(frozen=True)
class Observed:
    """What is known of a trace; None where it is not.

    Attributes:
        gpus: size and share of the jobs.
        duration_s: run times by largest size of the class they belong to.
        counts: arrivals per window, whole windows in order.
        window_s: their length.
        start_hour: hour of the day of the first window.
    """

    gpus: dict[int, float]
    duration_s: dict[int, np.ndarray]
    counts: np.ndarray
    window_s: float
    start_hour: float


def philly() -> Observed:
    """Sizes of the Gavel extract, run times and arrivals of the Sia one from 2 October on."""
    with gzip.open(TRACES / "philly/philly_vc_arrivals_gavel_first70pct.csv.gz", "rt") as file:
        gpus = np.array([int(row["num_gpus"]) for row in csv.DictReader(file)])
    jobs = read(TRACES / "philly/philly_jobs_sia_before_2017-11-06.csv.gz")
    classes = {1: (1, 1), 4: (2, 4), 8: (5, 8), 64: (9, 64)}
    begin = (
        27.0 * DAY + 13.0 * HOUR + (29 * 60 + 19)
    )  # 2 October 00:00; first job 4 September 10:30
    return Observed(
        _histogram(gpus),
        _by_class(jobs, classes),
        _counts(jobs.arrival_s[jobs.arrival_s >= begin] - begin, HOUR),
        HOUR,
        0.0,
    )


def helios() -> Observed:
    """Arrivals of Venus per 10 minutes; sizes of the SenseTime list; no run times."""
    path = TRACES / "helios/venus_throughput_10min_2020-04_to_07.csv.gz"
    with gzip.open(path, "rt") as file:
        counts = np.array([int(row["submit_gpu_job"]) for row in csv.DictReader(file)])
    facts = json.loads((TRACES / "vclos-workload/vclos_workload.json").read_text())
    sizes = facts["helios_gpu_histogram_in_simulator"]
    total = sum(sizes["counts"])
    gpus = {g: n / total for g, n in zip(sizes["sizes"], sizes["counts"], strict=True)}
    return Observed(gpus, {}, counts, 600.0, 0.0)


def acme() -> Observed:
    """The sample of Kalos."""
    jobs = read(TRACES / "acme/kalos_jobs_sample_rows0-599.csv")
    begin = 11.0 + 58 / HOUR  # the first job: 11:00:58
    return Observed(
        _histogram(jobs.gpus),
        _by_class(jobs, {8: (1, 8), 320: (9, 320)}),
        _counts(jobs.arrival_s, HOUR),
        HOUR,
        begin,
    )


def alibaba() -> Observed:
    """OpenB pods with GPUs, the dense last 24 days; the hour of the day of time 0 is unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jobs = read(TRACES / "alibaba-gpu-v2023/openb_pod_list_default_first70pct.csv.gz")
    dense = jobs.arrival_s > jobs.arrival_s[-1] - 24 * DAY
    at = jobs.arrival_s[dense]
    return Observed(
        _histogram(jobs.gpus[dense]),
        {8: jobs.duration_s[dense]},
        _counts(at - at[0], HOUR),
        HOUR,
        at[0] / HOUR % 24,
    )


def spot() -> Observed:
    """Hourly arrivals, without hour 0, which holds jobs that were there before."""
    folder = TRACES / "alibaba-spot-gpu-v2026"
    with gzip.open(folder / "hourly_arrivals_first129days.csv.gz", "rt") as file:
        rows = {int(row["submit_hour"]): int(row["jobs"]) for row in csv.DictReader(file)}
    counts = np.array([rows.get(hour, 0) for hour in range(1, max(rows) + 1)])
    with (folder / "bucket_gpu_demand.csv").open() as file:
        share = {row["gpu_demand_bucket"]: float(row["jobs_share"]) for row in csv.DictReader(file)}
    gpus = {  # parts of a GPU count as one; inside a bucket the sizes are ours
        1: share["0"] + share["1"],
        2: share["2 to 4"] / 2,
        4: share["2 to 4"] / 2,
        8: share["5 to 8"],
        16: share["9 to 16"],
        32: share["17 to 32"],
        64: share["33 to 64"],
        128: share["65 to 128"],
        160: share["129 plus"],
    }
    return Observed(gpus, {}, counts, HOUR, 1.0)


def spot_quantiles() -> tuple[list[float], list[float]]:
    """Run times of the spot trace: shares below the ends of its buckets, and its quantiles."""
    folder = TRACES / "alibaba-spot-gpu-v2026"
    ends = {"0 to 1 min": 60, "1 to 10 min": 600, "10 to 60 min": 3600, "1 to 6 hours": 21_600}
    ends |= {"6 to 24 hours": 86_400, "1 to 3 days": 259_200}
    with (folder / "bucket_duration.csv").open() as file:
        share = {r["duration_bucket"]: float(r["jobs_share"]) for r in csv.DictReader(file)}
    below = np.cumsum([share[name] for name in ends])
    points = dict(zip(below, ends.values(), strict=True))
    with (folder / "duration_quantiles.csv").open() as file:
        points |= {float(r[""]): float(r["duration_seconds"]) for r in _named(file)}
    points |= {0.0: 1.0, 1.0: 184 * DAY}
    p = sorted(points)
    return p, [points[x] for x in p]


def _named(file):
    return (
        {("" if k == "Unnamed: 0" else k): v for k, v in r.items()} for r in csv.DictReader(file)
    )


def _histogram(gpus: np.ndarray) -> dict[int, float]:
    sizes, counts = np.unique(gpus, return_counts=True)
    return {int(g): float(n / len(gpus)) for g, n in zip(sizes, counts, strict=True)}


def _by_class(jobs, classes: dict[int, tuple[int, int]]) -> dict[int, np.ndarray]:
    return {
        up_to: jobs.duration_s[(jobs.gpus >= low) & (jobs.gpus <= high)]
        for up_to, (low, high) in classes.items()
    }


def _counts(arrival_s: np.ndarray, window_s: float) -> np.ndarray:
    return np.histogram(arrival_s, np.arange(0.0, arrival_s[-1], window_s))[0]


# --- fits ----------------------------------------------------------------------------------------


def hours_of(seen: Observed) -> np.ndarray:
    """Relative rate of each hour of the day, mean 1."""
    hour = (seen.start_hour + np.arange(len(seen.counts)) * seen.window_s / HOUR).astype(int) % 24
    means = np.array([seen.counts[hour == h].mean() for h in range(24)])
    return means / means.mean()


def burst_shape(seen: Observed) -> float:
    """Shape of the gamma factor of a window, by moments: var = m + m^2 (1 + 1/shape) - mean^2."""
    hour = (seen.start_hour + np.arange(len(seen.counts)) * seen.window_s / HOUR).astype(int) % 24
    expected = seen.counts.mean() * hours_of(seen)[hour]
    extra = ((seen.counts - expected) ** 2 - expected).sum()
    return float((expected**2).sum() / extra)


def mixture(
    seconds: np.ndarray, components: int = COMPONENTS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit log-normals by expectation maximisation: weights, means and deviations of ln(seconds)."""
    x = np.log(seconds)
    mu = np.quantile(x, (np.arange(components) + 0.5) / components)
    sigma, weight = np.full(components, x.std() / components), np.full(components, 1 / components)
    for _ in range(500):
        z = (x[:, None] - mu) / sigma
        part = weight / sigma * np.exp(-0.5 * z**2) + 1e-300
        part /= part.sum(axis=1, keepdims=True)
        total = part.sum(axis=0)
        weight, mu = total / len(x), (part * x[:, None]).sum(axis=0) / total
        sigma = np.sqrt((part * (x[:, None] - mu) ** 2).sum(axis=0) / total + 0.01)
    return weight, mu, sigma


def lognormal_by_mean(median_s: float, mean_s: float, longest_s: float) -> tuple[float, float]:
    """Mean and deviation of ln(seconds) of a log-normal that has this median and mean once cut."""
    mu, low, high = np.log(median_s), 0.1, 6.0
    for _ in range(60):
        sigma = (low + high) / 2
        for _ in range(3):
            cut = lognormal_mixture([1.0], [mu], [sigma], 1.0, longest_s)
            mu += np.log(median_s / cut.quantile(np.array([0.5]))[0])
        low, high = (sigma, high) if cut.mean_s < mean_s else (low, sigma)
    return mu, sigma


SOURCES = {
    "philly": "Microsoft Philly 2017 (Jeon et al., ATC 2019; CC-BY-4.0): sizes from the Gavel "
    "extract, run times and arrivals from the Sia extract, 2 October to 5 November",
    "helios": "SenseTime Helios 2020 (Hu et al., SC 2021; CC-BY-4.0), cluster Venus: arrivals per "
    "10 minutes, median 204 s and mean 13,041 s of run times; sizes of the SenseTime list in the "
    "vClos simulator",
    "acme": "Shanghai AI Lab Acme 2023 (Hu et al., NSDI 2024; CC-BY-4.0): 600 jobs of Kalos, "
    "17 May to 6 June",
    "alibaba": "Alibaba OpenB 2023 (Weng et al., ATC 2023): pods with GPUs, last 24 days",
    "spot": "Alibaba spot GPUs 2026 (Duan et al., ASPLOS 2026): published summary tables; sizes "
    "inside a bucket are assumptions",
}
OBSERVED = {
    "philly": philly,
    "helios": helios,
    "acme": acme,
    "alibaba": alibaba,
    "spot": spot,
}
VENUS = {"median_s": 204.0, "mean_s": 13_040.598, "longest_s": 4_320_009.0}


def print_fits() -> None:
    """Print the fits as TOML."""
    print("# Parameters of the named job generators: facts fitted to public traces, each with its")
    print(
        "# source. Printed by `python benchmarks/job_fits.py --fit`; docs/jobs.md has the errors."
    )
    for name, observe in OBSERVED.items():
        seen = observe()
        print(f'\n[{name}]\nsource = """\\\n{textwrap.fill(SOURCES[name], 98)} """')
        print(f"rate_per_h = {seen.counts.mean() * HOUR / seen.window_s:.4g}")
        print(_list("hours", hours_of(seen)))
        print(f"burst_shape = {burst_shape(seen):.4g}")
        print(f"window_s = {seen.window_s}")
        print(f"gpus = {list(seen.gpus)}")
        print(_list("shares", seen.gpus.values()))
        if name == "spot":
            print("priorities = [[1.0, 0.8904], [0.0, 0.1096]] # high priority, spot")
        for line in _durations(name, seen):
            print(line)


def _durations(name: str, seen: Observed):
    if name == "spot":
        p, seconds = spot_quantiles()
        yield f"\n[[spot.durations]]\n{_list('p', p)}\n{_list('seconds', seconds)}"
    if name == "helios":
        mu, sigma = lognormal_by_mean(**VENUS)
        yield _class(name, [1.0], [mu], [sigma], 1.0, VENUS["longest_s"])
    for up_to, seconds in seen.duration_s.items():
        fit = mixture(seconds)
        yield _class(name, *fit, seconds.min(), seconds.max(), up_to)


def _class(name, weights, mu, sigma, shortest, longest, up_to=None) -> str:
    head = f"\n[[{name}.durations]]" + (f"\nup_to = {up_to}" if up_to else "")
    rows = [_list("weights", weights), _list("mu", mu), _list("sigma", sigma)]
    return "\n".join([head, *rows, f"shortest_s = {shortest:.6g}", f"longest_s = {longest:.6g}"])


def _list(field: str, values) -> str:
    """Return one assignment of TOML, broken over lines where it is long."""
    numbers = ", ".join(f"{float(v):.5g}" for v in values)
    if len(numbers) + len(field) <= 92:
        return f"{field} = [{numbers}]"
    lines = textwrap.fill(numbers, 98, initial_indent="  ", subsequent_indent="  ")
    return f"{field} = [\n{lines},\n]"


# --- comparison ----------------------------------------------------------------------------------


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    at = np.concatenate([a, b])
    below = [np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def dispersion(counts: np.ndarray) -> float:
    """Variance over mean of the arrivals per window; Poisson has 1."""
    return float(counts.var() / counts.mean())


def compare(name: str) -> dict[str, float]:
    """Print trace against generator; return the errors."""
    seen = OBSERVED[name]()
    source = preset(f"{name}-like")
    jobs = source.sample(np.random.default_rng(SEED), SAMPLE)
    mean = sum(g * share for g, share in seen.gpus.items())
    off = max(abs(np.mean(jobs.gpus == g) - share) for g, share in seen.gpus.items())
    counts = _counts(jobs.arrival_s, seen.window_s)
    rate = [x.mean() * HOUR / seen.window_s for x in (seen.counts, counts)]
    rows = {
        "jobs per hour": rate,
        "dispersion per window": [dispersion(seen.counts), dispersion(counts)],
        "mean GPUs": [mean, jobs.gpus.mean()],
    }
    errors = {"size_share": off, "ks_counts": distance(seen.counts, counts)}
    low = 0
    for up_to, seconds in seen.duration_s.items():
        drawn = jobs.duration_s[(jobs.gpus > low) & (jobs.gpus <= up_to)]
        label = f"{low + 1} to {up_to} GPUs" if up_to > low + 1 else f"{up_to} GPU"
        rows[f"median run time, {label}"] = [np.median(seconds), np.median(drawn)]
        rows[f"mean run time, {label}"] = [seconds.mean(), drawn.mean()]
        errors[f"ks_{low + 1}_{up_to}"] = distance(seconds, drawn)
        low = up_to
    if name == "helios":
        rows["median run time"] = [VENUS["median_s"], np.median(jobs.duration_s)]
        rows["mean run time"] = [VENUS["mean_s"], jobs.duration_s.mean()]
    if name == "spot":
        p, seconds = spot_quantiles()
        for share, value in list(zip(p, seconds, strict=True))[1:-1]:
            rows[f"run time at {share:.3f}"] = [value, np.quantile(jobs.duration_s, share)]
    for label, (real, generated) in rows.items():
        print(f"{name + '-like':14s} {label:32s} {real:12.5g} {generated:12.5g}")
    for label, error in errors.items():
        print(f"{name + '-like':14s} {label:32s} {'':12s} {error:12.4f}")
    return errors | {key: float(b / a) for key, (a, b) in rows.items()}


def main() -> None:
    if not TRACES.is_dir():
        sys.exit(f"no traces at {TRACES}: set GPUYARD_DATA to the folder of the measured data")
    if "--fit" in sys.argv[1:]:
        print_fits()
        return
    print(f"{'preset':14s} {'statistic':32s} {'trace':>12s} {'generator':>12s}")
    results = {name: compare(name) for name in OBSERVED}
    rounded = {n: {k: round(v, 4) for k, v in r.items()} for n, r in results.items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
