"""The J equilibrium conditions of one game, and their Jacobian."""

from __future__ import annotations

from cage_core.kernels.compiling import Floats, compiled
from cage_core.kernels.loops import add_payments, exponentials, multiply, shared_shortfalls, split


@compiled
def evaluate(
    log_base: Floats,
    payoffs: Floats,
    reserves: Floats,
    policy: Floats,
    shortfalls: Floats,
    jacobian: Floats,
    powers: Floats,
) -> None:
    """Expected shortfalls G_j = E[(m_j - v_j)+] under the policy the reserves induce, and their derivatives.

    The reserves are an equilibrium when every G_j is 1, the temperature (docs/paper.md, section 3).

    Args:
        log_base: [N]; payoffs: [J, N]; reserves: [J].
        policy: [N] out. shortfalls: [J] out. jacobian: [J, J] out, dG_j / dm_i. powers: [N] scratch.
    """
    principals = payoffs.shape[0]
    policy[:] = log_base
    for j in range(principals):
        add_payments(payoffs[j], reserves[j], policy)
    multiply(policy, 1.0 / exponentials(policy, powers))
    for j in range(principals):
        _, jacobian[j, j], shortfalls[j] = split(policy, payoffs[j], reserves[j])
    for j in range(principals):
        for i in range(j):
            one, other = shared_shortfalls(policy, payoffs[j], reserves[j], payoffs[i], reserves[i])
            jacobian[j, i] = shortfalls[j] * jacobian[i, i] - one
            jacobian[i, j] = shortfalls[i] * jacobian[j, j] - other
    for j in range(principals):
        jacobian[j, j] = 1.0 + (shortfalls[j] - 1.0) * jacobian[j, j]
