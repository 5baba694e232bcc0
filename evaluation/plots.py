"""PNG plots: bars with confidence intervals, distribution of TTFT or JCT, learning curve, Gantt.

The policies under test are drawn in colour, the rest in grey, best on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .metrics import metric
from .rollout import Rollout
from .statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCENT, GREY, LIGHT, INK = "#1f6fb4", "#9aa0a6", "#d5d8dc", "#30343a"
BARS = (
    *("ttft_mean_s", "ttft_p99_s", "tpot_mean_s", "e2e_mean_s", "slo_attainment", "goodput"),
    *("jct_mean_s", "jct_p99_s", "jrt_mean_s", "jwt_mean_s", "slowdown_mean", "utilisation"),
)
"""Metrics with a panel of bars, if they were measured."""

ITEMS = {
    "ttft": ("TTFT", "requests", "time to first token"),
    "jct": ("JCT", "jobs", "job completion time"),
}
"""What a distribution is of: abbreviation, what is counted, full name."""

SMOOTHING = 9
"""Updates in the moving average of the learning curve."""

NAIVE = ("random", "round-robin", "gang/random", "gang/fifo")
"""What every plot names, if it was run."""

HOUR_S = 3600.0

OUTLIER = 4.0
"""A bar longer than this many medians is cut and labelled, so that the others stay readable."""


def bars(rollouts: Sequence[Rollout], highlight: Sequence[str], path: Path) -> None:
    """Draw one panel per metric: a bar per policy with its 95 % interval over seeds."""
    keys = [key for key in BARS if key in rollouts[0].metrics]
    ranked = sorted(rollouts, key=lambda r: r.metrics["reward"].mean())
    height = 0.9 + 0.24 * len(ranked)
    figure, axes = _figure((len(keys) + 2) // 3, 3, panel_height=height)
    for i, (axis, key) in enumerate(zip(axes, keys, strict=False)):
        _bar_panel(axis, ranked, highlight, key)
        axis.tick_params(labelleft=i % 3 == 0)  # all panels have the same rows
    for axis in axes[len(keys) :]:
        axis.set_visible(False)
    seeds = len(rollouts[0].seeds)
    figure.suptitle(
        f"{rollouts[0].scenario}: mean over {seeds} held-out seeds, 95 % confidence interval",
        color=INK,
    )
    _save(figure, path)


def distribution(
    rollouts: Sequence[Rollout], highlight: Sequence[str], name: str, path: Path
) -> None:
    """Draw the share of requests or jobs whose time ``name`` was at most t seconds, per policy."""
    short, items, title = ITEMS[name]
    ranked = sorted(rollouts, key=lambda r: r.metrics["reward"].mean())
    figure, (axis,) = _figure(1, 1, panel_height=4.2, panel_width=7.0)
    named = _named(ranked, highlight)
    for rollout in ranked:
        times = np.sort(rollout.times_s[name])
        if not len(times):
            continue
        share = np.arange(1, len(times) + 1) / len(times)
        keep = np.linspace(0, len(times) - 1, min(len(times), 2000)).astype(int)
        colour = named.get(rollout.policy, LIGHT)
        label = rollout.policy if rollout.policy in named else None
        width = 2.2 if rollout.policy in highlight else 1.2
        axis.plot(times[keep], share[keep], color=colour, linewidth=width, label=label)
    axis.set(xscale="log", xlabel=f"{short}, s", ylabel=f"share of {items}", ylim=(0, 1))
    axis.set_title(f"{rollouts[0].scenario}: {title}", color=INK)
    axis.grid(color=LIGHT, linewidth=0.5)
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    _save(figure, path)


def learning_curve(
    curve: Sequence[dict[str, float]], baselines: Sequence[Rollout], path: Path
) -> None:
    """Draw the training reward over decisions, with some baselines' held-out means as levels."""
    figure, (axis,) = _figure(1, 1, panel_height=4.2, panel_width=7.0)
    steps = np.array([entry["decisions"] for entry in curve])
    reward = np.array([entry["reward"] for entry in curve])
    axis.plot(steps, reward, color=LIGHT, linewidth=0.8, label="one update")
    kernel = np.ones(min(SMOOTHING, len(reward)))
    smooth = np.convolve(reward, kernel, "same") / np.convolve(np.ones_like(reward), kernel, "same")
    axis.plot(steps, smooth, color=ACCENT, linewidth=2.0, label=f"mean of {len(kernel)} updates")
    ranked = sorted(baselines, key=lambda r: r.metrics["reward"].mean())
    named = _named(ranked[:-2] + ranked[-1:], ())  # the best, without its runner-up
    for rollout in (entry for entry in ranked if entry.policy in named):
        level = rollout.metrics["reward"].mean()
        axis.axhline(level, color=named[rollout.policy], linewidth=0.9, linestyle="--")
        axis.annotate(
            rollout.policy, (0.005, level), xycoords=("axes fraction", "data"),
            fontsize=7, color=INK, va="bottom",
        )  # fmt: skip
    axis.set(xlabel="decisions", ylabel="reward per episode")
    axis.set_title("training episodes; dashed: baselines on held-out seeds", color=INK, fontsize=10)
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    _save(figure, path)


def gantt(jobs: dict[str, NDArray], title: str, path: Path) -> None:
    """Draw when each job of an episode waited and ran, and the GPUs asked for and held.

    A line per job, in order of arrival: grey until its first start, then coloured, darker the
    larger the gang, until its finish; dashed if it was interrupted (the table does not say when).

    Args:
        jobs: the per-job table; what has not started or finished is drawn up to the last event.
        title: of the picture.
        path: the PNG file to write.
    """
    from matplotlib.colors import LogNorm

    arrival, start, finish = (jobs[key] / HOUR_S for key in ("arrival_s", "start_s", "finish_s"))
    end = np.nanmax(np.concatenate([arrival, start, finish]))
    start, finish = (np.where(np.isfinite(times), times, end) for times in (start, finish))
    whole = jobs["preemptions"] + jobs["failures"] == 0
    figure, (lines, area) = _figure(2, 1, panel_height=3.6, panel_width=9.0)
    row, width = np.arange(len(arrival)), max(0.4, 270.0 / len(arrival))  # points
    lines.hlines(row, arrival, start, color=LIGHT, linewidth=width)
    norm = LogNorm(1, max(2, jobs["gpus"].max()))
    runs = lines.hlines(
        row, start, finish, linewidth=width, array=jobs["gpus"], cmap="viridis_r", norm=norm
    )
    runs.set_linestyle(["solid" if one else "dashed" for one in whole])
    figure.colorbar(runs, ax=lines, label="GPUs of the job", pad=0.01)
    lines.set(ylabel="jobs, by arrival", ylim=(len(row) - 0.5, -0.5))
    for begin, colour, label in ((arrival, LIGHT, "asked for"), (start, ACCENT, "held")):
        times, gpus = over_time(jobs["gpus"], begin, finish)
        area.fill_between(times, gpus, step="post", color=colour, label=label)
    area.set(xlabel="time, h", ylabel="GPUs", xlim=lines.get_xlim())
    area.legend(frameon=False, fontsize=8)
    figure.suptitle(title, color=INK)
    _save(figure, path)


def over_time(amounts: NDArray, begin: NDArray, end: NDArray) -> tuple[NDArray, NDArray]:
    """Return the times at which the sum of amounts under way changes, and the sum from each on."""
    times, at = np.unique(np.concatenate([begin, end]), return_inverse=True)
    return times, np.cumsum(np.bincount(at, weights=np.concatenate([amounts, -amounts])))


def _bar_panel(axis: Axes, ranked: Sequence[Rollout], highlight: Sequence[str], key: str) -> None:
    shown = metric(key)
    intervals = [mean_interval(rollout.metrics[key] * shown.scale) for rollout in ranked]
    half = [i.half_width if np.isfinite(i.half_width) else 0.0 for i in intervals]
    axis.barh(
        [rollout.policy for rollout in ranked],
        [interval.mean for interval in intervals],
        xerr=half,
        color=[ACCENT if rollout.policy in highlight else GREY for rollout in ranked],
        error_kw={"ecolor": INK, "elinewidth": 1.0, "capsize": 2},
    )
    arrow = "higher is better" if shown.higher_is_better else "lower is better"
    axis.set_title(f"{shown.label} ({arrow})", fontsize=9, color=INK)
    _cut_outliers(axis, [interval.mean for interval in intervals], half)
    axis.tick_params(labelsize=7)


def _cut_outliers(axis: Axes, means: Sequence[float], half: Sequence[float]) -> None:
    bound = OUTLIER * float(np.median(means))
    inside = [m + h for m, h in zip(means, half, strict=True) if m <= bound or bound <= 0]
    right = 1.05 * max(inside)
    axis.set_xlim(0, right if right > 0 else 1)
    for place, mean in enumerate(means):
        if 0 < bound < mean:
            axis.annotate(
                f"{mean:.3g} ", (right, place), fontsize=7, color="white", ha="right", va="center"
            )


def _named(ranked: Sequence[Rollout], highlight: Sequence[str]) -> dict[str, str]:
    """Give a colour to the policies under test, to the two best others and to the naive ones."""
    others = [rollout.policy for rollout in ranked if rollout.policy not in highlight]
    chosen = dict.fromkeys([*others[-2:], *(name for name in NAIVE if name in others)])
    palette = ("#2f8f5b", "#c2591a", "#7a4fa3", "#8a6d1d")
    own = (ACCENT, "#c0264b", "#0f8b8d")
    colours = dict(zip(chosen, palette, strict=False))
    return colours | {name: own[i % len(own)] for i, name in enumerate(highlight)}


def _figure(
    rows: int, columns: int, panel_height: float, panel_width: float = 4.2
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # no pyplot: draws without a display or global state

    figure = Figure((columns * panel_width, rows * panel_height), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=130)
