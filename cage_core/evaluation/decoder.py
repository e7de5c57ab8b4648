"""A batched decoder for measurements: many prompts, one policy to try out, every principal's log-probabilities at hand.

Same networks, rows and candidates as the engine, and the same random numbers until the engine begins to draw which
token contexts it keeps: a policy that both know gives the same tokens (`tests/cage_core/evaluation/test_decoder.py`).
What is added is that any policy can be plugged in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cage_core.engine.lanes import Lanes
from cage_core.engine.model import LanguageModel
from cage_core.engine.request import CandidateFilter
from cage_core.engine.rows import RowPlan


@dataclass(frozen=True, eq=False)
class TokenGames:
    """The next token's games of all answers that still run.

    Attributes:
        answers: [B] which of the questions these are, for policies that keep something for each.
        tokens: [B, N] vocabulary ids of the candidates, likeliest first.
        base_log_probs: [B, N] nats, normalised over the candidates, -inf for implausible ones; float64.
        rewards: [B, J, N] log-ratios of the principals to the base, nats; float64.
        advantages: [B, J] each principal's running advantage, the sum over the answer's tokens x so far of
            q_j(x) - E_base[q_j], nats.
        position: tokens decoded so far, the same for all.
    """

    answers: Tensor
    tokens: Tensor
    base_log_probs: Tensor
    rewards: Tensor
    advantages: Tensor
    position: int


Policy = Callable[[TokenGames], Tensor]
"""Games of one step -> [B, N] probabilities of the candidates, float64."""


@dataclass(frozen=True)
class Question:
    """What is asked, and the seed of its answer's draws."""

    text: str
    seed: int


@dataclass(frozen=True)
class DecodedAnswer:
    """One answer.

    Attributes:
        ended: whether it ended by itself rather than at the cap.
        kl_nats: sum over the tokens of KL(policy || base), both over the candidates.
        advantages: [principals] sum over the tokens of q_j(chosen) - E_base[q_j], nats.
        base_log_prob: log-probability of the tokens under the base on the candidates, nats.
    """

    text: str
    tokens: tuple[int, ...]
    ended: bool
    kl_nats: float
    advantages: tuple[float, ...]
    base_log_prob: float


class Decoder:
    """Decodes batches of questions under a policy."""

    def __init__(self, model: LanguageModel, principals: Sequence[str], max_tokens: int) -> None:
        """Args: principals: in the order in which policies see them."""
        self.model = model
        self.principals = tuple(principals)
        self._max_tokens = max_tokens
        self._candidates = CandidateFilter()
        self._ends = torch.tensor(sorted(model.end_tokens))
        self._lanes = Lanes(model.networks, 0)
        self._num_rows = 0

    @torch.inference_mode()
    def decode(self, questions: Sequence[Question], policy: Policy) -> list[DecodedAnswer]:
        """One answer a question, all in one batch."""
        plans = [self._plan(question) for question in questions]
        running = _Running(plans, [question.seed for question in questions], self._max_tokens)
        lanes = self._lanes_for(sum(len(plan.rows) for plan in plans))
        log_probs = lanes.prefill([], plans)
        for position in range(self._max_tokens):
            games = self._games(log_probs, running, position)
            chosen = running.advance(games, policy(games))
            kept = running.drop(torch.isin(chosen, self._ends))
            if not kept or position + 1 == self._max_tokens:
                break
            lanes.keep(plans, kept)
            plans = [plans[place] for place in kept]
            log_probs = lanes.step(plans, running.last_tokens())
        lanes.keep(plans, [])
        return [self._answer(running, index) for index in range(len(questions))]

    def _lanes_for(self, num_rows: int) -> Lanes:
        """Key-value memory for so many rows; kept, for clearing it anew costs a tenth of the time."""
        if num_rows > self._num_rows:
            self._lanes, self._num_rows = Lanes(self.model.networks, num_rows), num_rows
        return self._lanes

    def _plan(self, question: Question) -> RowPlan:
        return self.model.plan_rows([{"role": "user", "content": question.text}], self.principals)

    def _games(self, log_probs: Tensor, running: _Running, position: int) -> TokenGames:
        base = log_probs[running.base_rows]
        top, tokens = base.topk(min(self._candidates.top_k, base.shape[-1]), dim=-1)
        top = top.double()
        top = top.masked_fill(top < top[:, :1] + np.log(self._candidates.min_p), -torch.inf)
        width = int(torch.isfinite(top).sum(-1).max())
        top, tokens = top[:, :width].log_softmax(-1), tokens[:, :width]
        at = tokens[:, None].expand(-1, len(self.principals), -1)
        plus = log_probs[running.plus[:, :, None], at].double()
        minus = log_probs[running.minus[:, :, None], at].double()
        rewards = plus - minus + running.lexical(self.model.lexicons, tokens)
        return TokenGames(running.alive, tokens, top, rewards, running.advantages[running.alive], position)

    def _answer(self, running: _Running, index: int) -> DecodedAnswer:
        tokens = tuple(running.tokens[index])
        return DecodedAnswer(
            text=self.model.decode(tokens),
            tokens=tokens,
            ended=tokens[-1] in self.model.end_tokens,
            kl_nats=float(running.kl_nats[index]),
            advantages=tuple(running.advantages[index].tolist()),
            base_log_prob=float(running.base_log_probs[index]),
        )


class _Running:
    """Answers under way: what is drawn, what is summed, and where each one's rows lie."""

    def __init__(self, plans: Sequence[RowPlan], seeds: Sequence[int], max_tokens: int) -> None:
        self._plans = plans
        draws = [np.random.Generator(np.random.Philox(key=seed % 2**64)).random(max_tokens) for seed in seeds]
        self._uniforms = torch.from_numpy(np.stack(draws))
        self.alive = torch.arange(len(plans))
        self.tokens: list[list[int]] = [[] for _ in plans]
        self.advantages = torch.zeros(len(plans), len(plans[0].rules), dtype=torch.float64)
        self.kl_nats = torch.zeros(len(plans), dtype=torch.float64)
        self.base_log_probs = torch.zeros(len(plans), dtype=torch.float64)
        self._locate_rows()

    def _locate_rows(self) -> None:
        plans = [self._plans[index] for index in self.alive.tolist()]
        firsts = torch.tensor([0, *(len(plan.rows) for plan in plans)]).cumsum(0)[:-1]
        self.base_rows = firsts
        self.plus = firsts[:, None] + torch.tensor([[rule.plus for rule in plan.rules] for plan in plans])
        self.minus = firsts[:, None] + torch.tensor([[rule.minus for rule in plan.rules] for plan in plans])

    def lexical(self, lexicons: Tensor, tokens: Tensor) -> Tensor:
        """[1, J, 1] or [B, J, N] fixed scores of the candidates, nats."""
        rules = self._plans[0].rules
        if all(rule.lexicon is None for rule in rules):
            return torch.zeros(1, len(rules), 1, dtype=torch.float64)
        none = torch.zeros(tokens.shape)
        scores = [none if rule.lexicon is None else lexicons[rule.lexicon, tokens] for rule in rules]
        return torch.stack(scores, dim=1).double()

    def advance(self, games: TokenGames, policy: Tensor) -> Tensor:
        """Draw every answer's next token by inverse transform, and account for it; [B] tokens."""
        cumulative = policy.cumsum(-1)
        uniforms = self._uniforms[self.alive, games.position, None]
        chosen = torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True)
        picked = games.tokens.gather(1, chosen).squeeze(1)
        for index, token in zip(self.alive.tolist(), picked.tolist(), strict=True):
            self.tokens[index].append(token)
        finite = games.base_log_probs.clamp(min=-1e3)
        mean = (games.rewards * games.base_log_probs.exp().unsqueeze(1)).sum(-1)
        reward = games.rewards.gather(2, chosen[:, None].expand(-1, games.rewards.shape[1], 1)).squeeze(2)
        self.advantages[self.alive] += reward - mean
        self.kl_nats[self.alive] += (torch.special.xlogy(policy, policy) - policy * finite).sum(-1)
        self.base_log_probs[self.alive] += games.base_log_probs.gather(1, chosen).squeeze(1)
        return picked

    def drop(self, ended: Tensor) -> list[int]:
        """Forget the answers that have ended; the places of the others."""
        kept: list[int] = (~ended).nonzero().squeeze(1).tolist()
        if len(kept) < len(ended):
            self.alive = self.alive[kept]
            if kept:
                self._locate_rows()
        return kept

    def last_tokens(self) -> list[list[int]]:
        """Tokens of every answer that runs, in order."""
        return [self.tokens[index] for index in self.alive.tolist()]
