"""How far routers, placements and autoscalers differ on each shipped joint scenario.

    python benchmarks/cluster_scenarios.py                  # all of them, 8 seeds
    python benchmarks/cluster_scenarios.py cluster-default --seeds 32 --processes 2

One composition is the base. Every other one differs from it in one part, with preemption also in
rules that preempt by quota and priority; then come the whole systems by name, and chance.
``docs/scenarios.md`` has the tables: mean and 95 % interval over held-out seeds, and the reward
against the base's, paired by seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpuyard import baselines  # noqa: E402
from gpuyard.envs import scenario as scenarios  # noqa: E402
from gpuyard.envs.scenario.read import read_table  # noqa: E402
from gpuyard.evaluation import tables  # noqa: E402
from gpuyard.evaluation.report import FIRST_SEED  # noqa: E402
from gpuyard.evaluation.statistics import paired_interval  # noqa: E402
from gpuyard.evaluation.sweep.run import sweep, tasks_of  # noqa: E402
from gpuyard.evaluation.sweep.task import World  # noqa: E402

BASE = {"route": "routing/dynamo", "place": "topology/kai", "scale": "scaling/keda"}
INSTEAD = {
    "route": ("routing/random", "routing/least-requests", "routing/predicted-latency"),
    "place": ("topology/kubernetes-spread", "gang/easy-backfill", "gang/sjf", "isolation/vclos"),
    "scale": (
        *("scaling/fixed", "scaling/fixed?times=2", "scaling/hpa", "scaling/hpa-queue"),
        *("scaling/wva", "scaling/wva-tokens", "scaling/dynamo"),
    ),
}
PREEMPTING = ("gang/kai-fair-share", "gang/volcano", "gang/kueue-fair", "gang/slurm-multifactor")
CHANCE = {"route": "routing/random", "place": "gang/random", "scale": "scaling/random"}
METRICS = ("slo_attainment", "ttft_mean_s", "jct_mean_s", "cost", "starts")


def composed(parts: dict[str, str]) -> str:
    """Return the name of a composition."""
    return f"compose:{'+'.join(parts.values())}"


def compositions(preempts: bool) -> dict[str, str]:
    """Return names to show, and names of policies; the base is the first one."""
    found = {"the base": composed(BASE)}
    for kind, others in {**INSTEAD, "place": INSTEAD["place"] + PREEMPTING * preempts}.items():
        found |= {other: composed({**BASE, kind: other}) for other in others}
    return found | {name: name for name in baselines.names("system")} | {"chance": composed(CHANCE)}


def table(name: str, seeds: int, processes: int, out: Path | None) -> tables.Table:
    """Return a row per composition, the best reward first."""
    scenario = scenarios.load(name)
    preempts = scenario.scheduler.preemption
    policies = {
        shown: policy
        for shown, policy in compositions(preempts).items()
        if scenario.decisions <= baselines.make(policy).decides
    }
    told, path = read_table(name)
    world = World.of(name, told, path.parent)
    held_out = range(FIRST_SEED, FIRST_SEED + seeds)
    rollouts = sweep(tasks_of([world], policies, held_out, chunk=1), out, processes)
    base = rollouts[0].metrics["reward"]
    rows = tables.summary(rollouts, ("reward", *METRICS, *("replicas_preempted",) * preempts))
    rows[0].insert(2, "against the base")
    by_name = {rollout.policy: rollout for rollout in rollouts}
    for row in rows[1:]:
        gain = paired_interval(by_name[row[0]].metrics["reward"], base)
        row.insert(2, f"{gain.mean:+.0f} ± {gain.half_width:.0f}" if row[0] != "the base" else "")
    return rows


def main() -> None:
    """Print a table per scenario."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="scenarios; all shipped joint ones by default")
    parser.add_argument("--seeds", type=int, default=8, help="held-out episodes per composition")
    parser.add_argument("--processes", type=int, default=1, help="that play")
    parser.add_argument("--out", type=Path, help="folder of finished episodes, to go on from")
    options = parser.parse_args()
    shipped = [name for name in scenarios.names() if name.startswith("cluster-")]
    print(f"the base: {composed(BASE)}; others differ from it in the part that is named\n")
    for name in options.names or shipped:
        made = table(name, options.seeds, options.processes, options.out)
        print(f"{name}\n\n{tables.markdown(made)}\n", flush=True)


if __name__ == "__main__":
    main()
