"""Who may do what, and how often: keys, scopes, limits, repetitions, the record of it."""
