"""What a decoder needs to know of a scope: one immutable version of its parameters."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from learner.posterior import Posterior
from learner.scope import Scope


@dataclass(frozen=True)
class Parameters:
    """One version of a scope's learned parameters.

    Attributes:
        user_id: None when these are the tenant's.
        version: counts up from 1 within the scope; 0 is the configured prior, before any learning.
        principals: names, in the tenant's order.
        theta: preference coefficient of each principal, then the bias; logged with every generation.
        weights: what decoders play, theta normalised: non-negative, sum 1.
        feedback_count: votes these parameters rest on.
        oldest_feedback_at: when the oldest vote that made this version came in; None if no vote did.
        posterior: what the version was solved from; None before any learning.
        revision: counts additions of reserves to the version; within a version the higher one is the newer.
        reserves: what each principal keeps of its payoff under these weights and the tenant's strength, payoff
            units; None until the incentives were worked out.
    """

    tenant_id: str
    user_id: str | None
    version: int
    principals: tuple[str, ...]
    theta: tuple[float, ...]
    weights: tuple[float, ...]
    feedback_count: int
    learned_at: datetime
    oldest_feedback_at: datetime | None
    posterior: Posterior | None = None
    revision: int = 0
    reserves: tuple[float, ...] | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Newer parameters of a scope have a higher one."""
        return self.version, self.revision

    def follows(self, configured: "Parameters") -> bool:
        """Whether these were solved for the principals and prior weights of a tenant's configuration."""
        solved_for = None if self.posterior is None else self.posterior.prior_weights
        return self.principals == configured.principals and solved_for == configured.weights

    @property
    def named_reserves(self) -> dict[str, float] | None:
        """Reserves by principal."""
        return None if self.reserves is None else dict(zip(self.principals, self.reserves, strict=True))

    @property
    def scope(self) -> Scope:
        """Whose parameters these are."""
        return Scope(self.tenant_id, self.user_id)

    def to_json(self) -> str:
        """The form that travels; floats survive exactly."""
        return json.dumps(asdict(self), default=datetime.isoformat, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is not of that form.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            oldest = fields.pop("oldest_feedback_at")
            posterior, reserves = fields.pop("posterior"), fields.pop("reserves")
            return cls(
                principals=tuple(fields.pop("principals")),
                theta=tuple(map(float, fields.pop("theta"))),
                weights=tuple(map(float, fields.pop("weights"))),
                learned_at=datetime.fromisoformat(fields.pop("learned_at")),
                oldest_feedback_at=None if oldest is None else datetime.fromisoformat(oldest),
                posterior=None if posterior is None else Posterior.from_fields(posterior),
                reserves=None if reserves is None else tuple(map(float, reserves)),
                **fields,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a parameter version: {error}") from error
