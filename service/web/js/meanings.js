// One sentence for every figure that more than one page shows.

export const MEANING = {
  users: "Users whose own votes have been learned.",
  thumbs: "Votes in the chosen time that count: neither retracted, lapsed nor cast by default.",
  approval: "Share of thumbs up among the thumbs in the chosen time.",
  regretPerThumb:
    "Average extra loss of the weights in force against the best single weights known only in hindsight, in nats; near or below 0 is good.",
  gap: "The most that any principal could gain by deviating alone at any token of the newest answers, in payoff units; practically 0 certifies the equilibrium.",
  lag: "How long the oldest vote that is not learned yet has been waiting; 0 when all are learned.",
  delay: "Median time from a thumb to the moment its new weights were published to the decoders, over the newest learned thumbs.",
  change: "Share of the weight that moved from some principals to others in the chosen time; 100 % is everything.",
  weights: "How much each principal's wishes count in an answer; the weights sum to 1.",
  regret:
    "Total loss of the weights in force less that of the best fixed weights in hindsight: how much was lost by not knowing the taste in advance.",
};
