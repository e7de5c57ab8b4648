"""The Nash equilibrium of a common-agency game, found as J reserves and certified by exact best responses."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cage_core.errors import InvalidGame
from cage_core.game import Game

# Rounding alone leaves gaps far below this share of the temperature.
GAP_TOLERANCE = 1e-9


class Status(StrEnum):
    """How to read one game's answer, as a sentence."""

    EQUILIBRIUM = "equilibrium: no principal gains by deviating alone"
    NOT_CONVERGED = "not an equilibrium: some principal gains the reported gap by deviating alone"
    TRUTHFUL = "truthful equilibrium of the menu auction: every principal offers its payoff above its reserve"
    BY_DESIGN = "not an equilibrium by design: the method sets the policy, and the gap is what that leaves open"


STATUSES = tuple(Status)


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Answer to a batch of games.

    Attributes:
        policy: [..., N] the agent's policy.
        reserves: [..., J] what every principal keeps, payoff units.
        incentives: [..., J, N] what every principal pays for each token, payoff units.
        gap: [...] the most any principal could gain by deviating alone, payoff units; computed from the
            incentives by exact best responses, independently of how they were found.
        status_codes: [...] int8 indices into STATUSES.
        iterations: [...] steps taken to find the reserves.
    """

    policy: Tensor
    reserves: Tensor
    incentives: Tensor
    gap: Tensor
    status_codes: Tensor
    iterations: Tensor

    @property
    def converged(self) -> Tensor:
        """[...] whether the gap certifies an equilibrium."""
        return self.status_codes == 0

    @property
    def statuses(self) -> tuple[Status, ...]:
        """One sentence per game, leading dimensions flattened."""
        return tuple(STATUSES[code] for code in self.status_codes.reshape(-1).tolist())

    @property
    def status(self) -> Status:
        """The sentence of a single game, or the least reassuring one of a batch."""
        return max(self.statuses, key=STATUSES.index, default=Status.EQUILIBRIUM)


def solve_equilibrium(game: Game, initial_reserves: Tensor | None = None) -> Equilibrium:
    """Nash equilibrium in incentives among the principals, for every game in the batch.

    A safeguarded semismooth Newton method on the J reserves, then continuation where it fails (docs/paper.md,
    section 3). Computed in float64 whatever the game's dtype. A game of three or more principals can have
    several equilibria; the answer is then one of them, and may depend on the start. Where a tensor of the
    game requires a gradient, policy, reserves and incentives carry their implicit derivatives.

    Args:
        initial_reserves: [..., J] warm start, payoff units; for example those of the previous token.

    Returns:
        Policy, reserves, incentives and certificate in the game's dtype, on the game's device. Never a silent
        non-equilibrium: `status_codes` follow from the certified gap.

    Raises:
        InvalidGame: initial_reserves do not fit the game or are not finite.
    """
    if initial_reserves is not None:
        check_reserves(game, initial_reserves, "initial_reserves")
    if game.payoffs.device.type == "cpu" and _kernel_is_compiled():
        answer = _solve_scalar(game, initial_reserves, commit=False)
    elif game.payoffs.device.type == "cuda" and fits_on_device(game):
        answer = solve_on_device(game, initial_reserves)
        if not torch.cuda.is_current_stream_capturing():
            answer = _with_last_resort(game, answer)
    else:
        answer = _solve_batched(game, initial_reserves)
    if torch.is_grad_enabled() and game.requires_grad:
        from cage_core.gradients import with_gradients

        return with_gradients(game, answer)
    return answer


def fits_on_device(game: Game) -> bool:
    """Whether `solve_on_device` takes the game: Triton is installed and the game is of a size for one GPU program."""
    # Imported on the first solve on a GPU: Triton takes a second.
    from cage_core.kernels import fused

    return fused.AVAILABLE and 0 not in game.batch_shape and fused.fits(game.num_principals, game.num_candidates)


def solve_on_device(game: Game, initial_reserves: Tensor | None = None) -> Equilibrium:
    """Nash equilibrium of every game in the batch by one fused kernel that never waits for the device.

    What `solve_equilibrium` runs on CUDA for up to 16 principals and 1024 candidates, less its checks, its last
    resort and its derivatives: a game that does not converge keeps its gap and the status that goes with it. Can
    be captured in a CUDA graph, after one call outside that compiles it; build the game with `Game.unchecked` there.

    Args:
        initial_reserves: [..., J] warm start, payoff units.

    Raises:
        InvalidGame: the game does not fit (`fits_on_device`).
    """
    from cage_core.kernels.fused import MOST_CANDIDATES, MOST_PRINCIPALS, solve_fused

    shape, principals, tokens = game.batch_shape, game.num_principals, game.num_candidates
    if not fits_on_device(game):
        raise InvalidGame(
            f"the fused kernel needs Triton, a non-empty batch, at most {MOST_PRINCIPALS} principals and "
            f"{MOST_CANDIDATES} candidates; got payoffs {tuple(game.payoffs.shape)}: use solve_equilibrium"
        )
    start = None
    if initial_reserves is not None:
        start = initial_reserves.detach().expand(*shape, principals).reshape(-1, principals)
    policy, reserves, incentives, gap, codes, steps = solve_fused(
        game.base_log_probs.detach().expand(*shape, tokens).reshape(-1, tokens),
        game.payoffs.detach().expand(*shape, principals, tokens).reshape(-1, principals, tokens),
        game.temperatures().detach().reshape(-1),
        start,
        game.dtype,
        GAP_TOLERANCE,
    )
    return Equilibrium(
        policy=policy.reshape(*shape, tokens),
        reserves=reserves.reshape(*shape, principals),
        incentives=incentives.reshape(*shape, principals, tokens),
        gap=gap.reshape(shape),
        status_codes=codes.reshape(shape),
        iterations=steps.reshape(shape),
    )


def committed_outcome(game: Game, reserves: Tensor) -> Equilibrium:
    """What follows when every principal keeps to a given reserve: pays (payoff - reserve)+, whatever others do.

    Args:
        reserves: [..., J] payoff units.

    Raises:
        InvalidGame: reserves do not fit the game or are not finite.
    """
    check_reserves(game, reserves, "reserves")
    if game.payoffs.device.type == "cpu" and _kernel_is_compiled():
        answer = _solve_scalar(game, reserves, commit=True)
    else:
        base, payoffs, temperatures = game.flattened()
        given = reserves.to(torch.float64).expand(*game.batch_shape, game.num_principals)
        given = given.reshape(payoffs.shape[:2])
        answer = _answer(game, base, payoffs, temperatures, given, torch.zeros_like(given[:, 0], dtype=torch.int64))
    codes = torch.where(answer.converged, 0, STATUSES.index(Status.BY_DESIGN)).to(torch.int8)
    return replace(answer, status_codes=codes)


def check_reserves(game: Game, reserves: Tensor, name: str) -> None:
    """Raise InvalidGame unless the reserves broadcast to [..., J] and are finite."""
    expected = (*game.batch_shape, game.num_principals)
    shape = reserves.shape
    fits = 1 <= len(shape) <= len(expected) and all(
        size in (1, wanted) for size, wanted in zip(shape[::-1], expected[::-1], strict=False)
    )
    if not fits or shape[-1] != expected[-1]:
        raise InvalidGame(f"{name} must be [..., J] = {expected}, got {tuple(shape)}")
    # A stream that is captured cannot be waited for; reserves that are not finite then end as an infinite gap.
    if reserves.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    if not bool(torch.isfinite(reserves).all()):
        raise InvalidGame(f"{name} must be finite: found NaN or infinity")


def equilibrium_gap(game: Game, incentives: Tensor) -> Tensor:
    """Largest utility any principal could gain by deviating alone from the given incentives; 0 at equilibrium.

    Exact: every principal's best response is in closed form (docs/paper.md, eq. 2).

    Args:
        incentives: [..., J, N] non-negative payments, payoff units.

    Returns:
        [...] gap, payoff units, float64.
    """
    from cage_core.kernels.batched import gaps_of

    base, payoffs, temperatures = game.flattened()
    offered = incentives.to(torch.float64).expand(*game.batch_shape, *payoffs.shape[1:]).reshape(payoffs.shape)
    return gaps_of(base, payoffs, temperatures, offered).reshape(game.batch_shape)


def _kernel_is_compiled() -> bool:
    # Imported on the first solve: Numba takes longer to import than everything else in this package.
    from cage_core.kernels.compiling import COMPILED

    return COMPILED


def _solve_scalar(game: Game, given: Tensor | None, commit: bool) -> Equilibrium:
    from cage_core.kernels.games import COLD, COMMITTED, WARM, solve_games

    shape = game.batch_shape
    principals, tokens = game.num_principals, game.num_candidates
    base = _as_array(game.base_log_probs, shape, (tokens,))
    payoffs = _as_array(game.payoffs, shape, (principals, tokens))
    games = payoffs.shape[0]
    if isinstance(game.temperature, Tensor):
        temperatures = _as_array(game.temperature, shape, ())
    else:
        temperatures = np.full(games, float(game.temperature))
    reserves = np.empty((games, principals))
    start = COLD if given is None else COMMITTED if commit else WARM
    known = reserves if given is None else _as_array(given, shape, (principals,))
    policy, incentives = np.empty((games, tokens)), np.empty((games, principals, tokens))
    gaps, steps = np.empty(games), np.empty(games, dtype=np.int64)
    solve_games(base, payoffs, temperatures, known, start, policy, reserves, incentives, gaps, steps)
    codes = (~(gaps <= GAP_TOLERANCE * temperatures)).astype(np.int8)
    dtype = game.dtype
    return Equilibrium(
        policy=_as_tensor(policy, (*shape, tokens), dtype),
        reserves=_as_tensor(reserves, (*shape, principals), dtype),
        incentives=_as_tensor(incentives, (*shape, principals, tokens), dtype),
        gap=_as_tensor(gaps, shape, dtype),
        status_codes=torch.from_numpy(codes.reshape(shape)),
        iterations=torch.from_numpy(steps.reshape(shape)),
    )


def _as_array(tensor: Tensor, batch: torch.Size, trailing: tuple[int, ...]) -> NDArray[np.float64]:
    """The tensor as a contiguous float64 array with one leading dimension for the whole batch."""
    array = tensor.detach().numpy() if tensor.dtype != torch.bfloat16 else tensor.detach().double().numpy()
    full = (*batch, *trailing)
    if array.shape != full:
        array = np.broadcast_to(array, full)
    return np.ascontiguousarray(array, dtype=np.float64).reshape(-1, *trailing)


def _as_tensor(array: NDArray[np.float64], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    tensor = torch.from_numpy(array.reshape(shape))
    return tensor if dtype == torch.float64 else tensor.to(dtype)


def _solve_batched(game: Game, initial_reserves: Tensor | None) -> Equilibrium:
    from cage_core.kernels.batched import solve_batch

    base, payoffs, temperatures = game.flattened()
    log_base = torch.log_softmax(base, dim=-1)
    start = None
    if initial_reserves is not None:
        start = initial_reserves.to(torch.float64).expand(*game.batch_shape, game.num_principals)
        start = start.reshape(payoffs.shape[:2]) / temperatures.unsqueeze(-1)
    scaled, steps, solved = solve_batch(log_base, payoffs / temperatures[:, None, None], start)
    reserves = scaled * temperatures.unsqueeze(-1)
    for index in torch.nonzero(~solved).flatten().tolist():
        reserves[index] = _last_resort(base[index], payoffs[index], temperatures[index])
    return _answer(game, base, payoffs, temperatures, reserves, steps)


def _with_last_resort(game: Game, answer: Equilibrium) -> Equilibrium:
    """The answer, its games without convergence solved again by the scalar solver on the host."""
    unsolved = torch.nonzero(answer.status_codes.reshape(-1)).flatten()
    if unsolved.numel() == 0:
        return answer
    base, payoffs, temperatures = (part.detach()[unsolved].cpu() for part in game.flattened())
    host = _solve_scalar(Game.unchecked(base, payoffs, temperatures), None, commit=False)

    def replaced(name: str) -> Tensor:
        values: Tensor = getattr(answer, name)
        better: Tensor = getattr(host, name)
        flat = values.reshape(-1, *better.shape[1:])
        return flat.index_copy(0, unsolved, better.to(values)).reshape(values.shape)

    return Equilibrium(**{field.name: replaced(field.name) for field in fields(Equilibrium)})


def _answer(
    game: Game, base: Tensor, payoffs: Tensor, temperatures: Tensor, reserves: Tensor, steps: Tensor
) -> Equilibrium:
    """Everything that follows from reserves [B, J], with its certificate."""
    from cage_core.kernels.batched import gaps_of

    incentives = (payoffs - reserves.unsqueeze(-1)).clamp(min=0)
    policy = torch.softmax(base + incentives.sum(dim=1) / temperatures.unsqueeze(-1), dim=-1)
    gap = gaps_of(base, payoffs, temperatures, incentives)
    shape, dtype = game.batch_shape, game.dtype
    return Equilibrium(
        policy=policy.reshape(*shape, -1).to(dtype),
        reserves=reserves.reshape(*shape, -1).to(dtype),
        incentives=incentives.reshape(*shape, *incentives.shape[1:]).to(dtype),
        gap=gap.reshape(shape).to(dtype),
        status_codes=(~(gap <= GAP_TOLERANCE * temperatures)).to(torch.int8).reshape(shape),
        iterations=steps.reshape(shape),
    )


def _last_resort(base: Tensor, payoffs: Tensor, temperature: Tensor) -> Tensor:
    """Reserves of one game, from the scalar solver on the host: continuation included."""
    host = Game.unchecked(base.cpu(), payoffs.cpu(), temperature.cpu())
    return _solve_scalar(host, None, commit=False).reserves.to(payoffs.device)
