"""The game over a whole answer: how principals' weights adapt to what the answer has already given each of them.

A principal's running advantage X_j is the sum over the answer's tokens x of q_j(x) - E_base[q_j], nats: under the
plain model a martingale, 0 on average. At every token each principal bids its marginal utility of more, and the token
is the truthful equilibrium of these bids. docs/paper.md, section 7, states the games and proves their guarantees.
Nothing here needs torch: the engine calls it with the arrays of one answer, the evaluation with batches of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

BUDGETED = "budgeted"
"""The engine's mode that plays the budgeted game."""

# Chosen on development prompts of the pocket model: docs/decisions/0006-defaults.md.
BUDGET_NATS = 4.0
BUDGET_RATE = 2.0
NASH_OFFSET_NATS = 1.0
BALANCE_RATE = 0.5
_LARGEST_EXPONENT = 50.0


def budgeted_weights(
    weights: Floats, advantages: Floats, budget_nats: float = BUDGET_NATS, rate: float = BUDGET_RATE
) -> Floats:
    """Weights of principals with a budget for the answer: each bids until it has been served its share.

    The budget B is shared out by preference, b_j = B w_j / sum_i w_i. Principal j's utility of an answer is
    -(1/c) log(exp(-c X_j) + exp(-c b_j)), a smooth min(X_j, b_j), and its bid is the marginal one:
    w_j / (1 + exp(c (X_j - b_j))).

    Args:
        weights: [..., J] preference weights, >= 0.
        advantages: [..., J] running advantages, nats.
        rate: c, how sharply bids fall at the budget, 1/nats.
    """
    over = rate * (advantages - budget_shares(weights, budget_nats))
    return weights / (1.0 + np.exp(np.clip(over, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)))


def budget_shares(weights: Floats, budget_nats: float = BUDGET_NATS) -> Floats:
    """[..., J] each principal's share of the answer's budget, nats."""
    total = weights.sum(axis=-1, keepdims=True)
    return budget_nats * weights / np.where(total > 0, total, 1.0)


def nash_weights(weights: Floats, advantages: Floats, offset_nats: float = NASH_OFFSET_NATS) -> Floats:
    """Weights of Nash's bargaining over the answer: w_j a / (a + X_j+), the gradient of sum_j w_j a log(a + X_j+).

    The plain model is the disagreement point (Nash 1950); nobody bids more than at the start of an answer.
    """
    return weights * (offset_nats / (offset_nats + np.maximum(advantages, 0.0)))


def balanced_weights(weights: Floats, advantages: Floats, rate: float = BALANCE_RATE) -> Floats:
    """Multiplicative weights within the answer, w_j exp(-c X_j) rescaled to the same total (Freund, Schapire 1997).

    Args:
        rate: c, 1/nats; 0 leaves the weights as they are.
    """
    behind = -rate * advantages
    adapted = weights * np.exp(behind - behind.max(axis=-1, keepdims=True))
    total = adapted.sum(axis=-1, keepdims=True)
    rescaled = adapted * (weights.sum(axis=-1, keepdims=True) / np.where(total > 0, total, 1.0))
    return np.where(total > 0, rescaled, weights)


@dataclass(frozen=True)
class BudgetLedger:
    """What principals with budgets have gained while they were bidding, and the certificate that follows from it.

    With p_jt = bid / weight in [0, 1] and d_jt the advantage of token t to principal j, X_j = sum_t d_jt:

        sum_t p_jt d_jt - min(X_j, b_j) <= log(1 + exp(-c b_j)) / c + (c / 8) sum_t d_jt^2        for every answer.

    Attributes:
        gained: [J] sum_t p_jt d_jt, nats.
        squares: [J] sum_t d_jt^2.
        advantages: [J] X_j, nats.
    """

    gained: Floats
    squares: Floats
    advantages: Floats

    @classmethod
    def empty(cls, num_principals: int) -> BudgetLedger:
        """Before the first token."""
        zeros = np.zeros(num_principals)
        return cls(zeros, zeros, zeros)

    def after(self, token_advantages: Floats, weights: Floats, budget_nats: float = BUDGET_NATS) -> BudgetLedger:
        """The ledger with one more token, which was worth `token_advantages` [J] more than the base's mean, nats."""
        bids = budgeted_weights(weights, self.advantages, budget_nats)
        shares = np.divide(bids, weights, out=np.zeros_like(bids), where=weights > 0)
        return BudgetLedger(
            self.gained + shares * token_advantages,
            self.squares + token_advantages**2,
            self.advantages + token_advantages,
        )

    def regret_nats(self, weights: Floats, budget_nats: float = BUDGET_NATS) -> float:
        """Regret within the answer: the most by which a principal's gains while it bid exceed what it kept of them.

        max_j (sum_t p_jt d_jt - min(X_j, b_j)) over the principals with a weight; negative when all kept more.
        """
        kept = np.minimum(self.advantages, budget_shares(weights, budget_nats))
        return self._worst(self.gained - kept, weights)

    def bound_nats(self, weights: Floats, budget_nats: float = BUDGET_NATS, rate: float = BUDGET_RATE) -> float:
        """What theory promises for `regret_nats`, for the tokens as they came."""
        shares = budget_shares(weights, budget_nats)
        return self._worst(np.log1p(np.exp(-rate * shares)) / rate + rate / 8 * self.squares, weights)

    def _worst(self, values: Floats, weights: Floats) -> float:
        asked = weights > 0
        return float(values[asked].max()) if asked.any() else 0.0
