"""The J equilibrium conditions of one game, and their Jacobian."""

from __future__ import annotations

import math

from cage_core.kernels.compiling import Floats, compiled


@compiled
def evaluate(
    log_base: Floats, payoffs: Floats, reserves: Floats, policy: Floats, shortfalls: Floats, jacobian: Floats
) -> None:
    """Expected shortfalls G_j = E[(m_j - v_j)+] under the policy the reserves induce, and their derivatives.

    The reserves are an equilibrium when every G_j is 1, the temperature (docs/paper.md, section 3).

    Args:
        log_base: [N]; payoffs: [J, N]; reserves: [J].
        policy: [N] out. shortfalls: [J] out. jacobian: [J, J] out, dG_j / dm_i.
    """
    principals, tokens = payoffs.shape
    for k in range(tokens):
        policy[k] = log_base[k]
    for j in range(principals):
        reserve = reserves[j]
        for k in range(tokens):
            policy[k] += max(payoffs[j, k] - reserve, 0.0)
    largest = -math.inf
    for k in range(tokens):
        largest = max(largest, policy[k])
    total = 0.0
    for k in range(tokens):
        policy[k] = math.exp(policy[k] - largest)
        total += policy[k]
    scale = 1.0 / total
    for k in range(tokens):
        policy[k] *= scale
    for j in range(principals):
        reserve = reserves[j]
        shortfall = 0.0
        paid = 0.0
        for k in range(tokens):
            excess = payoffs[j, k] - reserve
            shortfall -= policy[k] * min(excess, 0.0)
            paid += policy[k] if excess > 0.0 else 0.0
        shortfalls[j] = shortfall
        jacobian[j, j] = paid
    for j in range(principals):
        for i in range(principals):
            if i == j:
                continue
            reserve, other = reserves[j], reserves[i]
            shared = 0.0
            for k in range(tokens):
                shared -= policy[k] * min(payoffs[j, k] - reserve, 0.0) if payoffs[i, k] > other else 0.0
            jacobian[j, i] = -shared
    for j in range(principals):
        for i in range(principals):
            if i != j:
                jacobian[j, i] += shortfalls[j] * jacobian[i, i]
    for j in range(principals):
        jacobian[j, j] = 1.0 + (shortfalls[j] - 1.0) * jacobian[j, j]
