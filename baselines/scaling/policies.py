"""Autoscaling rules as policies, by the names under which they are registered."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..policy import Factory, Observation, ScorePolicy
from .dynamo_load import DynamoLoad
from .dynamo_sla import PERIOD_S, DynamoSLA, Profile
from .fixed import Fixed
from .hpa import HPA, Metric
from .idle import Idle
from .keda import KedaTokenAware
from .predictors import Kind
from .rule import ScalingRule
from .scaler import NAMES, Scaler
from .wva import WVASaturation, WVATokens
from .xllm import XLLMScaler

if TYPE_CHECKING:
    from gpuyard.envs.rules import SLO
    from gpuyard.envs.scenario import Scenario
    from gpuyard.envs.scenario.services import Role, Service

PROMPT_TOKENS = 2048
"""Prompts at which prefill rates are taken."""


class FixedScaler(Scaler):
    """As many replicas as there are at first, or so many times those; see :class:`.Fixed`.

    Args:
        times: what the scenario's ``initial`` is multiplied by; a role's bounds hold.

    Raises:
        ValueError: ``times`` is not above 0.
    """

    def __init__(self, times: float = 1.0) -> None:
        if not times > 0:
            raise ValueError(f"times = {times!r}: give a number above 0")
        self.times = times

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        if self.times == 1.0:
            return Fixed()
        wanted = round(role.initial * self.times)
        return Fixed({NAMES[role.kind]: min(max(wanted, role.least), role.most)})


class IdleScaler(Scaler):
    """A fleet so many times that of the scenario, which lets idle replicas go; see :class:`.Idle`.

    Args:
        times: what the scenario's ``initial`` is multiplied by to begin with; bounds hold.
        batch: requests in flight for which there is one replica.
        spare: replicas beyond those while requests come.
        window_s: it goes down to the most that it wanted within so many seconds.
        idle_s: seconds without a request after which the spare ones go, too.

    Raises:
        ValueError: ``times`` or ``batch`` is not above 0, or another option is below 0.
    """

    def __init__(
        self,
        times: float = 3.0,
        batch: float = 40.0,
        spare: int = 1,
        window_s: float = 30.0,
        idle_s: float = 150.0,
    ) -> None:
        if not times > 0:
            raise ValueError(f"times = {times!r}: give a number above 0")
        Idle(1, batch, spare, window_s, idle_s)
        self.times, self.batch, self.spare = times, batch, spare
        self.window_s, self.idle_s = window_s, idle_s

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        options = self.batch, self.spare, self.window_s, self.idle_s
        return Idle(round(role.initial * self.times), *options, role.least, role.most)


class HPAScaler(Scaler):
    """The Kubernetes HorizontalPodAutoscaler; see :class:`.HPA`.

    Args:
        metric: what is averaged over replicas.
        target: value that the mean should have.
    """

    def __init__(self, metric: Metric = "utilization", target: float = 0.5) -> None:
        HPA(target, metric)
        self.metric: Metric = metric
        self.target = target

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        return HPA(self.target, self.metric, least=role.least, most=role.most)


class KedaScaler(Scaler):
    """llm-d's token-aware scaling with KEDA; see :class:`.KedaTokenAware`.

    V_P is the replica's estimated prefill rate on prompts of 2,048 tokens.

    Args:
        prefill_s: seconds of prompts that may queue at a replica.
        kv: KV usage that a replica should have.
    """

    def __init__(self, prefill_s: float = 1.5, kv: float = 0.8) -> None:
        KedaTokenAware(1.0, prefill_s, kv)
        self.prefill_s, self.kv = prefill_s, kv

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        rate = role.prefill_tokens_per_s(PROMPT_TOKENS)
        return KedaTokenAware(rate, self.prefill_s, self.kv, least=role.least, most=role.most)


class WVATokensScaler(Scaler):
    """The analyser by tokens of the same; see :class:`.WVATokens`.

    A replica's cache in tokens is that of the scenario, as engines report theirs.
    """

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        held = {NAMES[role.kind]: float(role.kv_tokens)}
        return WVATokens(held, least=role.least, most=role.most)


class DynamoSLAScaler(Scaler):
    """Dynamo's planner by objectives; see :class:`.DynamoSLA`.

    Its profile is the cost model's estimate at the service's mean lengths, where Dynamo measures
    one before; the objective of the time per token is the service's.

    Args:
        forecast: of the traffic of the next period.
        corrected: whether measured latencies correct the profile.
        period_s: seconds between two adjustments.
        log1p: whether logarithms are forecast.
    """

    def __init__(
        self,
        forecast: Kind = "constant",
        corrected: bool = True,
        period_s: float = PERIOD_S,
        log1p: bool = False,
    ) -> None:
        DynamoSLA(Profile(1.0, 1.0, ((1.0, 1.0, 1.0),)), 1.0, forecast, period_s=period_s)
        self.forecast: Kind = forecast
        self.corrected, self.period_s, self.log1p = corrected, period_s, log1p

    def rules(self, service: Service, slo: SLO) -> list[tuple[ScalingRule, tuple[Role, ...]]]:
        """Return the one rule for both roles.

        Raises:
            ValueError: the service has none apart.
        """
        roles = {role.kind: role for role in service.roles}
        if set(roles) != {"prefill", "decode"}:
            raise ValueError(
                f"scaling/dynamo-sla scales prefill and decode replicas; deployment "
                f"{service.name!r} has {' and '.join(roles)} ones"
            )
        prefill, decode = roles["prefill"], roles["decode"]
        lengths = service.workload.mean_lengths()
        curve = decode.decode_curve(*lengths)
        profile = Profile(
            prefill_tokens_per_s=prefill.prefill_tokens_per_s(round(lengths[0])) / prefill.gpus,
            ttft_s=prefill.prefill_s(lengths[0]),
            decode=tuple((n, step_s, rate / decode.gpus) for n, step_s, rate in curve),
            prefill_gpus=prefill.gpus,
            decode_gpus=decode.gpus,
        )
        rule = DynamoSLA(
            profile,
            slo.tpot_s,
            self.forecast,
            self.corrected,
            most_gpus=sum(role.most * role.gpus for role in service.roles),
            least=min(role.least for role in service.roles),
            most=max(role.most for role in service.roles),
            period_s=self.period_s,
            log1p=self.log1p,
        )
        return [(rule, service.roles)]


class WVAScaler(Scaler):
    """The saturation analyser of llm-d's autoscaler of variants; see :class:`.WVASaturation`."""

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        return WVASaturation(least=role.least, most=role.most)


class DynamoScaler(Scaler):
    """Dynamo's planner by load; see :class:`.DynamoLoad`.

    Args:
        defaults: of its document or of its code, which disagree.
    """

    def __init__(self, defaults: Literal["document", "code"] = "document") -> None:
        DynamoLoad(defaults)
        self.defaults: Literal["document", "code"] = defaults

    def rule(self, role: Role) -> ScalingRule:
        """Return the rule."""
        gpus = role.gpus
        return DynamoLoad(
            self.defaults,
            dict.fromkeys(NAMES.values(), gpus),
            most_gpus=role.most * gpus,
            least=role.least,
            most=role.most,
        )


class RandomScaler(ScorePolicy):
    """A feasible row, uniformly at random: the zero of every comparison."""

    decides = frozenset({"scale"})

    def reset(self, scenario: Scenario, num_envs: int, seed: int = 0) -> None:
        """Seed the draws."""
        super().reset(scenario, num_envs, seed)
        self._rng = np.random.default_rng(seed)

    def score(self, observation: Observation) -> NDArray[np.floating]:
        """Return independent uniform numbers: the largest one is a uniform choice."""
        return self._rng.random(observation["action_mask"].shape)


BASELINES: dict[str, Factory] = {
    "random": RandomScaler,
    "fixed": FixedScaler,
    "idle": IdleScaler,
    "hpa": HPAScaler,
    "hpa-queue": partial(HPAScaler, metric="waiting", target=2.0),
    "keda": KedaScaler,
    "wva": WVAScaler,
    "wva-tokens": WVATokensScaler,
    "dynamo": DynamoScaler,
    "dynamo-sla": DynamoSLAScaler,
    "xllm": XLLMScaler,
}
"""Registered rules; docs/baselines_scaling.md has a row for each."""
