"""The game over a whole answer: how principals' weights adapt to what the answer has already given each of them.

A principal's running advantage X_j is the sum over the answer's tokens x of q_j(x) - E_base[q_j], nats: under the
plain model a martingale, 0 on average. At every token each principal bids its marginal utility of more, and the token
is the truthful equilibrium of these bids. docs/paper.md, section 7, states the games and proves their guarantees.
Nothing here needs torch: the engine calls it with the arrays of one answer, the evaluation with batches of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

BUDGETED = "budgeted"
BALANCED = "balanced"
"""Modes of the engine that play a game over the answer; tokens are linear blending's under its weights."""

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


class AnswerGame(Protocol):
    """A game over one answer, as it stands after some tokens."""

    @property
    def bids(self) -> Floats:
        """[J] weights with which the principals bid for the next token."""

    @property
    def regret_nats(self) -> float:
        """Regret within the answer so far, nats: the certificate."""

    @property
    def bound_nats(self) -> float:
        """What theory promises for `regret_nats`, for the tokens as they came."""

    def after(self, token_advantages: Floats) -> AnswerGame:
        """The game one token later; the token was worth `token_advantages` [J] above the base's mean, nats."""


def answer_game(mode: str, weights: Floats, balance: float) -> AnswerGame | None:
    """The game over the answer that goes with a mode and a balance; None where weights stay as they are."""
    if mode == BUDGETED:
        return BudgetedGame.opening(weights)
    rate = balance or (BALANCE_RATE if mode == BALANCED else 0.0)
    return BalancedGame.opening(weights, rate) if rate else None


@dataclass(frozen=True)
class BudgetedGame:
    """Principals with a budget for the answer.

    With p_jt = bid / weight and d_jt the advantage of token t to principal j, X_j = sum_t d_jt, every answer obeys

        R_j := sum_t p_jt d_jt - min(X_j, b_j) <= log(1 + exp(-c b_j)) / c + (c / 8) sum_t d_jt^2:

    what a principal gained while it was bidding it has kept, up to its budget. The certificate is max_j R_j.

    Attributes:
        advantages: [J] X_j, nats. gained: [J] sum_t p_jt d_jt, nats. squares: [J] sum_t d_jt^2.
    """

    weights: Floats
    advantages: Floats
    gained: Floats
    squares: Floats
    budget_nats: float = BUDGET_NATS

    @classmethod
    def opening(cls, weights: Floats, budget_nats: float = BUDGET_NATS) -> BudgetedGame:
        """Before the first token."""
        zeros = np.zeros(len(weights))
        return cls(weights, zeros, zeros, zeros, budget_nats)

    @property
    def bids(self) -> Floats:
        """[J] weights for the next token."""
        return budgeted_weights(self.weights, self.advantages, self.budget_nats)

    @property
    def regret_nats(self) -> float:
        """max_j R_j over the principals with a weight; negative when all have kept more."""
        kept = np.minimum(self.advantages, budget_shares(self.weights, self.budget_nats))
        return _largest(self.gained - kept, self.weights)

    @property
    def bound_nats(self) -> float:
        """Of `regret_nats`."""
        promised = np.log1p(np.exp(-BUDGET_RATE * budget_shares(self.weights, self.budget_nats))) / BUDGET_RATE
        return _largest(promised + BUDGET_RATE / 8 * self.squares, self.weights)

    def after(self, token_advantages: Floats) -> BudgetedGame:
        """One token later."""
        shares = np.divide(self.bids, self.weights, out=np.zeros(len(self.weights)), where=self.weights > 0)
        return replace(
            self,
            advantages=self.advantages + token_advantages,
            gained=self.gained + shares * token_advantages,
            squares=self.squares + token_advantages**2,
        )


@dataclass(frozen=True)
class BalancedGame:
    """Multiplicative weights within the answer.

    With p_t the bids as a mix, p_1 the weights as one, every answer obeys

        R := sum_t p_t . d_t - min_j X_j <= max_j log(1 / p_1j) / c + (c / 8) sum_t (max_j d_jt - min_j d_jt)^2

    over the principals with a weight: the one served worst is not further behind what the mix gained.

    Attributes:
        rate: c, 1/nats. advantages: [J] X_j, nats. gained: sum_t p_t . d_t, nats.
        squared_ranges: sum over the tokens of (max_j d_jt - min_j d_jt)^2.
    """

    weights: Floats
    rate: float
    advantages: Floats
    gained: float
    squared_ranges: float

    @classmethod
    def opening(cls, weights: Floats, rate: float = BALANCE_RATE) -> BalancedGame:
        """Before the first token."""
        return cls(weights, rate, np.zeros(len(weights)), 0.0, 0.0)

    @property
    def bids(self) -> Floats:
        """[J] weights for the next token."""
        return balanced_weights(self.weights, self.advantages, self.rate)

    @property
    def regret_nats(self) -> float:
        """R."""
        return _largest(self.gained - self.advantages, self.weights)

    @property
    def bound_nats(self) -> float:
        """Of `regret_nats`."""
        total = self.weights.sum()
        prior = np.log(total / np.where(self.weights > 0, self.weights, total)) if total > 0 else np.zeros(1)
        return float(prior.max()) / self.rate + self.rate / 8 * self.squared_ranges

    def after(self, token_advantages: Floats) -> BalancedGame:
        """One token later."""
        total = self.weights.sum()
        asked = token_advantages[self.weights > 0]
        return replace(
            self,
            advantages=self.advantages + token_advantages,
            gained=self.gained + (float(self.bids @ token_advantages) / float(total) if total > 0 else 0.0),
            squared_ranges=self.squared_ranges + (float(np.ptp(asked)) ** 2 if asked.size else 0.0),
        )


def _largest(values: Floats, weights: Floats) -> float:
    """Over the principals with a weight; 0 without any."""
    asked = weights > 0
    return float(values[asked].max()) if asked.any() else 0.0
