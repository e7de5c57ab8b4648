"""The solver as one fused GPU kernel: a program per game, all of its state in registers, no trip to the host.

The method of `newton.py`, with two differences that suit a GPU: a best response is the root of its own monotone
equation by bracketed Newton steps, without a sort or the Wright omega function, and a cold start is every
principal's response to the base policy alone. There is no last resort here: a game that does not converge keeps
its gap and its status. Written in Triton; without it this module imports, but solves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., object])

try:
    import triton
    import triton.language as tl
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True

MOST_PRINCIPALS = 16
MOST_CANDIDATES = 1024


def _on_device(function: Function) -> Function:
    return cast(Function, triton.jit(function)) if AVAILABLE else function


def _launched(function: Function) -> Function:
    # Sizes change from call to call and must not compile anew; and with `warm` known to it, Triton 3.6 fails.
    runtime = ["principals", "tokens", "base_game", "payoffs_game", "payoffs_principal", "warm"]
    return cast(Function, triton.jit(function, do_not_specialize=runtime)) if AVAILABLE else function


def _constant(value: float) -> Any:
    """A number that kernels may read: Triton asks for its own type."""
    return tl.constexpr(value) if AVAILABLE else value


MAX_STEPS = _constant(40)
MAX_HALVINGS = _constant(5)
MAX_RESPONSE_STEPS = _constant(200)
TOLERANCE = _constant(1e-12)
ROUNDING = _constant(1e-7)
LONGEST_STEP = _constant(1e15)
# A Newton step of this length, in temperatures, leaves an error of its square.
LAST_STEP = _constant(1e-8)


@_on_device
def _conditions(log_base: tl.tensor, excess: tl.tensor) -> Any:
    """Policy [N], expected shortfalls G_j = E[(m_j - v_j)+] and probabilities that j pays [J] (`conditions.py`).

    Args:
        excess: [J, N] payoffs less reserves.
    """
    logits = log_base + tl.sum(tl.maximum(excess, 0.0), axis=0)
    weights = tl.exp(logits - tl.max(logits, axis=0))
    policy = weights / tl.sum(weights, axis=0)
    shortfalls = tl.sum(policy[None, :] * tl.maximum(-excess, 0.0), axis=1)
    paid = tl.sum(tl.where(excess > 0.0, policy[None, :], 0.0), axis=1)
    return policy, shortfalls, paid


@_on_device
def _residuals(shortfalls: tl.tensor, active: tl.tensor) -> Any:
    """Distance of every shortfall from 1, the temperature, and the largest; as in `newton.py`."""
    residual = tl.where(shortfalls > 1.0, tl.log(tl.maximum(shortfalls, 1.0)), shortfalls - 1.0)
    residual = tl.where(active, residual, 0.0)
    return residual, tl.max(tl.where(tl.abs(residual) < float("inf"), tl.abs(residual), float("inf")), axis=0)


@_on_device
def _direction(
    policy: tl.tensor,
    excess: tl.tensor,
    shortfalls: tl.tensor,
    paid: tl.tensor,
    residual: tl.tensor,
    active: tl.tensor,
    row_count: tl.constexpr,
) -> Any:
    """Newton's direction [J], and whether it is one: the Jacobian regular and the step on the scale of games."""
    row = tl.arange(0, row_count)
    unpaid = policy[None, :] * tl.maximum(-excess, 0.0)
    matrix = shortfalls[:, None] * paid[None, :]
    for principal in range(row_count):
        pays = tl.sum(tl.where((row[:, None] == principal) & (excess > 0.0), 1, 0), axis=0)
        shared = tl.sum(tl.where(pays[None, :] > 0, unpaid, 0.0), axis=1)
        matrix -= tl.where(row[None, :] == principal, shared[:, None], 0.0)
    diagonal = row[:, None] == row[None, :]
    matrix += tl.where(diagonal, 1.0 - paid[:, None], 0.0)
    matrix = matrix / tl.maximum(shortfalls, 1.0)[:, None]
    played = (active[:, None] & active[None, :]) | diagonal
    matrix = tl.where(played, tl.where(diagonal & (active[:, None] == 0), 1.0, matrix), 0.0)
    return _linear_solution(matrix, residual, row_count)


@_on_device
def _linear_solution(matrix: tl.tensor, right: tl.tensor, size: tl.constexpr) -> Any:
    """Gauss-Jordan elimination with partial pivoting, rows left where they are."""
    row = tl.arange(0, size)
    solves = tl.full((size,), -1, tl.int32)
    smallest = tl.full((), float("inf"), tl.float64)
    for column in range(size):
        entries = tl.sum(tl.where(row[None, :] == column, matrix, 0.0), axis=1)
        pivot_row = tl.argmax(tl.where(solves < 0, tl.abs(entries), -1.0), axis=0)
        is_pivot = row == pivot_row
        pivot = tl.sum(tl.where(is_pivot, entries, 0.0), axis=0)
        smallest = tl.minimum(smallest, tl.abs(pivot))
        scaled = tl.sum(tl.where(is_pivot[:, None], matrix, 0.0), axis=0) / pivot
        scaled_right = tl.sum(tl.where(is_pivot, right, 0.0), axis=0) / pivot
        matrix = tl.where(is_pivot[:, None], scaled[None, :], matrix - entries[:, None] * scaled[None, :])
        right = tl.where(is_pivot, scaled_right, right - entries * scaled_right)
        solves = tl.where(is_pivot, column, solves)
    solution = tl.sum(tl.where(solves[None, :] == row[:, None], right[None, :], 0.0), axis=1)
    bounded = tl.sum(tl.where(tl.abs(solution) < LONGEST_STEP, 1, 0), axis=0) == size
    return solution, bounded & (smallest > 0.0)


@_on_device
def _responses(logits: tl.tensor, excess: tl.tensor, most_steps: tl.tensor) -> Any:
    """How far every row's best reserve lies above the one in force (docs/paper.md, eq. 1 and section 3).

    With the mean shortfall G at a trial reserve, its own payments included, one Newton step on the increasing,
    concave function of `response.best_reserve` is 1 - G, short of the root by at most its square; a step on log G
    is faster while G is small. Both are kept between bounds of the root.

    Args:
        logits: [R or 1, N] log-weights with everybody's payments in force.
        excess: [R, N] payoffs of the principals who respond, less their reserves in force.
        most_steps: after 0 the reserves are only moved between bounds that no best response can leave.
    """
    lower = tl.min(excess, axis=1)
    upper = tl.max(excess, axis=1) + 1.0
    move = tl.minimum(tl.maximum(lower, 0.0), upper)
    done = move != move
    count = 0
    unfinished = 1
    while (unfinished > 0) & (count < most_steps):
        # What the principal pays more at the trial reserve, up to a constant and without cancellation.
        between = tl.minimum(tl.maximum(excess, tl.minimum(move, 0.0)[:, None]), tl.maximum(move, 0.0)[:, None])
        tilted = logits + tl.where(move[:, None] < 0.0, between, -between)
        weights = tl.exp(tilted - tl.max(tilted, axis=1)[:, None])
        total = tl.sum(weights, axis=1)
        here = excess - move[:, None]
        shortfall = tl.sum(weights * tl.maximum(-here, 0.0), axis=1) / total
        unpaid = tl.sum(tl.where(here > 0.0, 0.0, weights), axis=1) / total
        short = shortfall < 1.0
        lower = tl.where(short, tl.maximum(lower, move), lower)
        upper = tl.where(short, upper, tl.minimum(upper, move))
        slope = unpaid + shortfall * (1.0 - unpaid)
        last = tl.abs(1.0 - shortfall) <= LAST_STEP
        fast = -tl.log(shortfall) * shortfall / slope
        trial = move + tl.where(short & (last == 0), fast, 1.0 - shortfall)
        middle = 0.5 * (lower + upper)
        safe = tl.where((trial > lower) & (trial < upper), trial, middle)
        stuck = ((safe > lower) & (safe < upper)) == 0
        move = tl.where(done, move, tl.where(last, trial, tl.where(stuck, move, safe)))
        done = done | last | stuck
        unfinished = tl.sum(tl.where(done, 0, 1), axis=0)
        count += 1
    return move


@_on_device
def _sweep(log_base: tl.tensor, payoffs: tl.tensor, reserves: tl.tensor, row_count: tl.constexpr) -> Any:
    """One Gauss-Seidel sweep: every principal in turn answers the others exactly."""
    row = tl.arange(0, row_count)
    logits = log_base + tl.sum(tl.maximum(payoffs - reserves[:, None], 0.0), axis=0)
    for principal in range(row_count):
        mine = row == principal
        excess = tl.sum(tl.where(mine[:, None], payoffs - reserves[:, None], 0.0), axis=0)
        move = tl.sum(_responses(logits[None, :], excess[None, :], MAX_RESPONSE_STEPS), axis=0)
        logits += tl.maximum(excess - move, 0.0) - tl.maximum(excess, 0.0)
        reserves = tl.where(mine, reserves + move, reserves)
    return reserves


@_on_device
def _newton(
    log_base: tl.tensor, payoffs: tl.tensor, reserves: tl.tensor, active: tl.tensor, row_count: tl.constexpr
) -> Any:
    """Safeguarded Newton steps from the given reserves; returns reserves and the steps taken (`newton.py`)."""
    policy, shortfalls, paid = _conditions(log_base, payoffs - reserves[:, None])
    residual, size = _residuals(shortfalls, active)
    step = 0
    settled = 0
    while (step < MAX_STEPS) & (settled == 0) & ((size <= TOLERANCE) == 0):
        direction, regular = _direction(
            policy, payoffs - reserves[:, None], shortfalls, paid, residual, active, row_count
        )
        length = tl.where(regular, 1.0, 0.0).to(tl.float64)
        halvings = 0
        accepted = 0
        while (halvings < MAX_HALVINGS) & (accepted == 0) & (length > 0.0):
            trial = reserves - length * direction
            policy, shortfalls, paid = _conditions(log_base, payoffs - trial[:, None])
            residual, trial_size = _residuals(shortfalls, active)
            if trial_size < (1.0 - 1e-4 * length) * size:
                accepted = 1
                reserves = trial
                size = trial_size
            length *= 0.5
            halvings += 1
        if accepted == 0:
            if size <= ROUNDING:
                settled = 1
            else:
                reserves = _sweep(log_base, payoffs, reserves, row_count)
                policy, shortfalls, paid = _conditions(log_base, payoffs - reserves[:, None])
                residual, size = _residuals(shortfalls, active)
        if settled == 0:
            step += 1
    return reserves, step


@_on_device
def _certified_gap(log_base: tl.tensor, payoffs: tl.tensor, reserves: tl.tensor, active: tl.tensor) -> Any:
    """Largest gain from a unilateral deviation, by exact best responses to the payments in force."""
    excess = payoffs - reserves[:, None]
    _, shortfalls, _ = _conditions(log_base, excess)
    logits = log_base + tl.sum(tl.maximum(excess, 0.0), axis=0)
    # Utility of the best reserve less that of the one in force: (m' - 1) - (m - E[(m - v)+]).
    gain = tl.where(active, _responses(logits[None, :], excess, MAX_RESPONSE_STEPS) + shortfalls - 1.0, 0.0)
    return tl.max(tl.where(tl.abs(gain) < float("inf"), tl.maximum(gain, 0.0), float("inf")), axis=0)


@_on_device
def _store(pointer: tl.tensor, value: tl.tensor, mask: tl.tensor) -> None:
    """Rounded to what the pointer points to; to 16 bits by way of 32."""
    if pointer.dtype.element_ty.primitive_bitwidth < 32:
        tl.store(pointer, value.to(tl.float32).to(pointer.dtype.element_ty), mask=mask)
    else:
        tl.store(pointer, value.to(pointer.dtype.element_ty), mask=mask)


@_launched
def _solve_game(
    base: tl.tensor,
    payoffs: tl.tensor,
    temperatures: tl.tensor,
    start: tl.tensor,
    policy: tl.tensor,
    reserves: tl.tensor,
    incentives: tl.tensor,
    gaps: tl.tensor,
    codes: tl.tensor,
    steps: tl.tensor,
    principals: tl.tensor,
    tokens: tl.tensor,
    base_game: tl.tensor,
    base_token: tl.tensor,
    payoffs_game: tl.tensor,
    payoffs_principal: tl.tensor,
    payoffs_token: tl.tensor,
    warm: tl.tensor,
    gap_tolerance: tl.constexpr,
    row_count: tl.constexpr,
    column_count: tl.constexpr,
) -> None:
    """One game: load, solve, certify, store. Padding is principals who are indifferent and impossible candidates."""
    game = tl.program_id(0).to(tl.int64)
    row, column = tl.arange(0, row_count), tl.arange(0, column_count)
    row_in, column_in = row < principals, column < tokens
    temperature = tl.load(temperatures + game).to(tl.float64)
    log_base = tl.load(base + game * base_game + column * base_token, mask=column_in, other=-float("inf"))
    log_base = log_base.to(tl.float64)
    highest = tl.max(log_base, axis=0)
    log_base = log_base - highest - tl.log(tl.sum(tl.exp(log_base - highest), axis=0))
    kept = row_in[:, None] & (log_base > -float("inf"))[None, :]
    places = row[:, None] * payoffs_principal + column[None, :] * payoffs_token
    values = tl.load(payoffs + game * payoffs_game + places, mask=row_in[:, None] & column_in[None, :], other=0.0)
    values = values.to(tl.float64)
    origin = tl.where(row_in, tl.max(tl.where(kept, values, -float("inf")), axis=1), 0.0)
    values = tl.where(kept, (values - origin[:, None]) / temperature, 0.0)
    # Who is indifferent between all candidates keeps a reserve one temperature above them, and pays nothing.
    active = tl.min(values, axis=1) < 0.0
    # A cold start answers the base policy alone; a warm one is only moved between the bounds of any answer.
    given = tl.load(start + game * principals + row, mask=row_in & (warm > 0), other=0.0).to(tl.float64)
    found = tl.where(warm > 0, (given - origin) / temperature, 0.0)
    found = tl.where(active, found, 1.0)
    found += _responses(log_base[None, :], values - found[:, None], tl.where(warm > 0, 0, MAX_RESPONSE_STEPS))
    found, taken = _newton(log_base, values, found, active, row_count)
    excess = values - found[:, None]
    chosen, _, _ = _conditions(log_base, excess)
    # Comparisons and maxima may pass over what is not a number.
    broken = tl.sum(tl.sum(tl.where(tl.abs(values) < float("inf"), 0, 1), axis=1), axis=0)
    broken += tl.sum(tl.where(tl.abs(found) < float("inf"), 0, 1), axis=0)
    broken += tl.sum(tl.where(log_base < float("inf"), 0, 1), axis=0)
    gap = tl.where(broken > 0, float("inf"), _certified_gap(log_base, values, found, active))
    paid = tl.where(kept, tl.maximum(excess, 0.0), 0.0) * temperature
    _store(policy + game * tokens + column, chosen, column_in)
    _store(reserves + game * principals + row, origin + found * temperature, row_in)
    cells = (game * principals + row)[:, None] * tokens + column[None, :]
    _store(incentives + cells, paid, row_in[:, None] & column_in[None, :])
    _store(gaps + game, gap * temperature, game >= 0)
    tl.store(codes + game, tl.where(gap <= gap_tolerance, 0, 1).to(tl.int8))
    tl.store(steps + game, taken)


def fits(principals: int, tokens: int) -> bool:
    """Whether games of this size are solved here, if Triton is installed."""
    return principals <= MOST_PRINCIPALS and tokens <= MOST_CANDIDATES


def solve_fused(
    base: Tensor, payoffs: Tensor, temperatures: Tensor, start: Tensor | None, dtype: torch.dtype, gap_tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Solve and certify a batch in one launch, without waiting for the device.

    Args:
        base: [B, N]; payoffs: [B, J, N], payoff units; temperatures: [B]. Any floating type; computed in float64.
        start: [B, J] reserves to begin from, payoff units.
        dtype: of the answer.
        gap_tolerance: largest gap of an equilibrium, temperatures.

    Returns:
        policy [B, N], reserves [B, J], incentives [B, J, N], gap [B], status codes [B], iterations [B].
    """
    games, principals, tokens = payoffs.shape
    rows, columns = triton.next_power_of_2(principals), triton.next_power_of_2(tokens)
    policy = payoffs.new_empty((games, tokens), dtype=dtype)
    reserves = payoffs.new_empty((games, principals), dtype=dtype)
    incentives = payoffs.new_empty((games, principals, tokens), dtype=dtype)
    gaps = payoffs.new_empty(games, dtype=dtype)
    codes = payoffs.new_empty(games, dtype=torch.int8)
    steps = payoffs.new_empty(games, dtype=torch.int64)
    launch: Any = _solve_game
    with torch.cuda.device_of(payoffs):
        launch[(games,)](
            base,
            payoffs,
            temperatures.contiguous(),
            payoffs if start is None else start.contiguous(),
            policy,
            reserves,
            incentives,
            gaps,
            codes,
            steps,
            principals,
            tokens,
            *base.stride(),
            *payoffs.stride(),
            int(start is not None),
            gap_tolerance=gap_tolerance,
            row_count=rows,
            column_count=columns,
            num_warps=_warps(rows * columns),
        )
    return policy, reserves, incentives, gaps, codes, steps


def _warps(cells: int) -> int:
    """Four cells a thread: more threads wait for one another, fewer spill registers and need longer code."""
    return max(1, min(16, cells // 128))
