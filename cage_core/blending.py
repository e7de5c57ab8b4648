"""Ways to combine the same principals, behind one call: the equilibrium and its rivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from cage_core.best_responses import reserve_of_best_response
from cage_core.equilibrium import (
    STATUSES,
    Equilibrium,
    Status,
    committed_outcome,
    equilibrium_gap,
    solve_equilibrium,
)
from cage_core.errors import InvalidGame
from cage_core.game import Game

Method = Callable[[Game, Tensor | None], Equilibrium]

MAX_BARRIER_STEPS = 150
MAX_BARRIER_HALVINGS = 20
SMALLEST_BARRIER = 1e-13


def linear(game: Game, reserves: Tensor | None = None) -> Equilibrium:
    """Linear blending, pi proportional to pi0 exp(sum of payoffs / temperature), with prices.

    The efficient outcome of the game in which principals pay for policies rather than tokens (a menu auction:
    Bernheim and Whinston 1986), here at Clarke prices: principal j keeps its contribution to the surplus,
    u_j = W - W_without_j with W = temperature * log sum_k pi0_k exp(sum of payoffs / temperature), and offers
    v_jk - u_j for token k, whose mean under the policy is its externality. That offer is negative on tokens
    worth less to it than u_j. No principal gains by misreporting its payoffs, so the gap is 0. A starting
    point in `reserves` is not needed and not read.
    """
    policy = linear_policy(game)
    _, payoffs, _ = game.flattened()
    flat = policy.reshape(payoffs.shape[0], -1)
    keeps = (flat.unsqueeze(1) * payoffs).sum(-1) - externalities(game, policy).reshape(payoffs.shape[:2])
    return _outcome(game, flat, keeps, payoffs - keeps.unsqueeze(-1), Status.TRUTHFUL)


def linear_policy(game: Game) -> Tensor:
    """[..., N] float64 policy of linear blending alone, where nobody asks for its prices."""
    total = game.payoffs.to(torch.float64).sum(dim=-2) / game.temperatures().unsqueeze(-1)
    return torch.softmax(game.base_log_probs.to(torch.float64) + total, dim=-1)


def base(game: Game, reserves: Tensor | None = None) -> Equilibrium:
    """The base policy: nobody pays. `reserves` are not read."""
    _, payoffs, _ = game.flattened()
    policy = game.base_policy().to(torch.float64).reshape(payoffs.shape[0], -1)
    impossible = (policy == 0).unsqueeze(1)
    keeps = payoffs.masked_fill(impossible, -torch.inf).amax(dim=-1)
    return _outcome(game, policy, keeps, torch.zeros_like(payoffs), Status.BY_DESIGN)


def committed(game: Game, reserves: Tensor | None = None) -> Equilibrium:
    """Every principal keeps to the reserve it is given; nothing is solved.

    Raises:
        InvalidGame: no reserves, or reserves that do not fit the game.
    """
    if reserves is None:
        raise InvalidGame("committed needs reserves [..., J]: the incentive allocation to keep to")
    return committed_outcome(game, reserves)


def theorem3(game: Game, reserves: Tensor | None = None) -> Equilibrium:
    """Maximiser of <pi, Q> - J tau KL(pi || pi0) - J c_min(pi), which the paper's Theorem 3 equates with the
    equilibrium (true for J = 1 only: docs/paper.md). `reserves` are not read.

    With c_min(pi) = max_k tau log(pi0_k / pi_k), the objective divided by J is that of a single principal
    with the mean payoff, so its best response to nobody is the maximiser; each principal bears an equal share.
    """
    log_base, payoffs, temperatures = game.flattened()
    mean = payoffs.mean(dim=1)
    keeps = reserve_of_best_response(log_base, mean, temperatures)
    total = (mean - keeps.unsqueeze(-1)).clamp(min=0)
    policy = torch.softmax(log_base + total / temperatures.unsqueeze(-1), dim=-1)
    shares = (total / game.num_principals).unsqueeze(1).expand_as(payoffs)
    return _outcome(game, policy, keeps.unsqueeze(-1).expand(payoffs.shape[:2]), shares, Status.BY_DESIGN)


def maxmin(game: Game, reserves: Tensor | None = None) -> Equilibrium:
    """Robust mixture: maximises the worst-off principal's advantage over the base, less the price of moving.

    max over pi of n * min_j <pi - pi0, v_j> - tau KL(pi || pi0), over the n principals who are not
    indifferent (the per-token form of robust multi-objective decoding). By duality the policy is
    pi0 exp(n sum_j lambda_j v_j / tau), with lambda in the simplex found by an interior-point method; equal
    lambda is linear blending. `reserves` are not read.
    """
    log_base, payoffs, temperatures = game.flattened()
    log_base = torch.log_softmax(log_base, dim=-1)
    start = torch.exp(log_base)
    scaled = payoffs / temperatures[:, None, None]
    advantage = scaled - (scaled * start.unsqueeze(1)).sum(-1, keepdim=True)
    matters = ((advantage.abs() * start.unsqueeze(1)).sum(-1) > 1e-14).to(torch.float64)
    count = matters.sum(-1, keepdim=True)
    advantage = advantage * count.unsqueeze(-1)
    weights, steps = _least_favourable(log_base, advantage, matters)
    policy = torch.softmax(log_base + (weights.unsqueeze(-1) * advantage).sum(dim=1), dim=-1)
    offers = (weights * count * temperatures.unsqueeze(-1)).unsqueeze(-1) * scaled
    possible = (start > 0).unsqueeze(1)
    lowest = torch.where(possible, offers, torch.inf).amin(dim=-1, keepdim=True)
    offers = torch.where(possible, offers - lowest, 0.0)
    outcome = _outcome(game, policy, lowest.squeeze(-1), offers, Status.BY_DESIGN)
    return replace(outcome, iterations=steps.reshape(game.batch_shape))


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "equilibrium": solve_equilibrium,
        "linear": linear,
        "committed": committed,
        "base": base,
        "theorem3": theorem3,
        "maxmin": maxmin,
    }
)


def externalities(game: Game, policy: Tensor) -> Tensor:
    """What every principal's presence costs the others and the agent at a policy: Clarke's payment.

    p_j = tau log Z_without_j - (sum over i != j of <pi, v_i> - tau KL(pi || pi0)), with Z_without_j =
    sum_k pi0_k exp(sum over i != j of v_ik / tau); never negative, and 0 where the policy is the best one
    for everybody but j (Clarke 1971; docs/paper.md, section 5).

    Args:
        policy: [..., N] any policy over the candidates.

    Returns:
        [..., J] in payoff units, in the game's dtype.
    """
    log_base, payoffs, temperatures = game.flattened()
    chosen = policy.to(torch.float64).expand(*game.batch_shape, game.num_candidates).reshape(log_base.shape)
    log_base = torch.log_softmax(log_base, dim=-1)
    centred = (payoffs - (chosen.unsqueeze(1) * payoffs).sum(-1, keepdim=True)) / temperatures[:, None, None]
    others = centred.sum(dim=1, keepdim=True) - centred
    best = torch.logsumexp(log_base.unsqueeze(1) + others, dim=-1)
    price = (best + _kl_nats(chosen, log_base).unsqueeze(-1)).clamp(min=0) * temperatures.unsqueeze(-1)
    return price.reshape(*game.batch_shape, game.num_principals).to(game.dtype)


def kl_nats(game: Game, policy: Tensor) -> Tensor:
    """[...] divergence KL(policy || base policy) over the candidates, nats, float64."""
    log_base = torch.log_softmax(game.base_log_probs.to(torch.float64), dim=-1)
    return _kl_nats(policy.to(torch.float64), log_base.expand(*game.batch_shape, game.num_candidates))


def strength_for_kl(game: Game, target_kl_nats: float, method: str) -> Tensor:
    """Factor on all payoffs at which a method's policy has a given KL to the base policy.

    The operator's steering budget, and the only fair footing on which to compare methods. Bisection on the
    logarithm of the strength between 1e-6 and 1e6.

    Args:
        target_kl_nats: above 0, nats.
        method: a key of METHODS other than "base" and "committed".

    Returns:
        [...] strengths, float64; infinity where no strength reaches the target.

    Raises:
        InvalidGame: the method takes no strength, or the target is not above 0.
    """
    if method not in METHODS or method in ("base", "committed"):
        raise InvalidGame(f"method {method!r} has no strength; choose one of equilibrium, linear, theorem3, maxmin")
    if not 0.0 < target_kl_nats < float("inf"):
        raise InvalidGame(f"target_kl_nats must be finite and above 0, got {target_kl_nats!r}")
    device = game.payoffs.device
    low = torch.full(game.batch_shape, -6.0, dtype=torch.float64, device=device)
    high = torch.full_like(low, 6.0)
    with torch.no_grad():
        reachable = _kl_at(game, torch.pow(10.0, high), method) >= target_kl_nats
        for _ in range(50):
            middle = 0.5 * (low + high)
            enough = _kl_at(game, torch.pow(10.0, middle), method) >= target_kl_nats
            high = torch.where(enough, middle, high)
            low = torch.where(enough, low, middle)
    return torch.where(reachable, torch.pow(10.0, high), torch.inf)


def _kl_at(game: Game, strength: Tensor, method: str) -> Tensor:
    payoffs = game.payoffs.to(torch.float64) * strength[..., None, None]
    stronger = Game.unchecked(game.base_log_probs, payoffs, game.temperature)
    policy = linear_policy(stronger) if method == "linear" else METHODS[method](stronger, None).policy
    return kl_nats(stronger, policy)


def _kl_nats(policy: Tensor, log_base: Tensor) -> Tensor:
    terms = torch.where(policy > 0, policy * (torch.log(policy) - log_base), 0.0)
    return terms.sum(dim=-1).clamp(min=0)


def _least_favourable(log_base: Tensor, advantage: Tensor, matters: Tensor) -> tuple[Tensor, Tensor]:
    """Simplex weights [B, J] that minimise log sum_k pi0_k exp(sum_j weight_j advantage_jk), and steps [B].

    Logarithmic barrier with damped Newton steps; principals who do not matter get weight 0.
    """
    size = matters.shape[1]
    weights = matters / matters.sum(-1, keepdim=True).clamp(min=1)
    system = torch.zeros(*matters.shape[:1], size + 1, size + 1, dtype=weights.dtype, device=weights.device)
    system[:, :size, size] = system[:, size, :size] = matters
    system[:, size, size] = (matters.sum(-1) == 0).to(weights.dtype)
    scale = advantage.abs().amax(dim=(-1, -2)).clamp(min=1.0).unsqueeze(-1)
    barrier = scale.clone()
    steps = torch.zeros_like(matters[:, 0], dtype=torch.int64)
    for _ in range(MAX_BARRIER_STEPS):
        active = (barrier > SMALLEST_BARRIER * scale).squeeze(-1)
        if not bool(active.any()):
            break
        steps = steps + active
        value, mean, covariance = _dual(log_base, advantage, weights)
        held = weights.clamp(min=1e-300)
        pull = torch.where(matters > 0, barrier / held, 0.0)
        system[:, :size, :size] = covariance + torch.diag_embed(pull / held + (1.0 - matters))
        right = torch.cat([(pull - mean) * matters, torch.zeros_like(mean[:, :1])], dim=-1)
        direction = torch.linalg.solve(system, right)[:, :size] * matters
        descent = (direction * (mean - pull)).sum(-1)
        # Stay inside: no weight falls by more than nine tenths in a step.
        length = 0.9 / (-direction / held).amax(dim=-1).clamp(min=0.9)
        inside = value - (barrier * torch.log(held) * matters).sum(-1)
        moved = torch.zeros_like(active)
        for _ in range(MAX_BARRIER_HALVINGS):
            trial = weights + length.unsqueeze(-1) * direction
            trial_value = _dual_value(log_base, advantage, trial)
            trial_value = trial_value - (barrier * torch.log(trial.clamp(min=1e-300)) * matters).sum(-1)
            moved = trial_value <= inside + 0.1 * length * descent + 1e-14 * inside.abs()
            if bool(moved.all()):
                break
            length = torch.where(moved, length, 0.5 * length)
        weights = torch.where((moved & active).unsqueeze(-1), weights + length.unsqueeze(-1) * direction, weights)
        # Close to the centre of this barrier, or as close as rounding allows: on to the next one. A game that is
        # done keeps its barrier: shrinking it on, while others of the batch still run, ends in a singular system.
        centred = active & ((descent.abs() < 0.1 * barrier.squeeze(-1)) | ~moved)
        barrier = torch.where(centred.unsqueeze(-1), 0.2 * barrier, barrier)
    return weights, steps


def _dual_value(log_base: Tensor, advantage: Tensor, weights: Tensor) -> Tensor:
    return torch.logsumexp(log_base + (weights.unsqueeze(-1) * advantage).sum(dim=1), dim=-1)


def _dual(log_base: Tensor, advantage: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value [B], gradient [B, J] and Hessian [B, J, J] of the dual of the max-min problem."""
    logits = log_base + (weights.unsqueeze(-1) * advantage).sum(dim=1)
    policy = torch.softmax(logits, dim=-1).unsqueeze(1)
    mean = (policy * advantage).sum(dim=-1)
    centred = advantage - mean.unsqueeze(-1)
    return torch.logsumexp(logits, dim=-1), mean, (policy * centred) @ centred.transpose(-1, -2)


def _outcome(game: Game, policy: Tensor, keeps: Tensor, incentives: Tensor, status: Status) -> Equilibrium:
    """An answer whose policy [B, N], reserves [B, J] and incentives [B, J, N] the method has set."""
    shape, dtype = game.batch_shape, game.dtype
    device = policy.device
    offered = incentives.reshape(*shape, *incentives.shape[1:])
    if status is Status.TRUTHFUL:
        gap = torch.zeros(shape, dtype=dtype, device=device)
    else:
        gap = equilibrium_gap(game, offered).to(dtype)
    return Equilibrium(
        policy=policy.reshape(*shape, -1).to(dtype),
        reserves=keeps.reshape(*shape, -1).to(dtype),
        incentives=offered.to(dtype),
        gap=gap,
        status_codes=torch.full(shape, STATUSES.index(status), dtype=torch.int8, device=device),
        iterations=torch.zeros(shape, dtype=torch.int64, device=device),
    )
