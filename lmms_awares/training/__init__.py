"""Training of the policy: weighted SFT on trajectories, then multi-turn GRPO (paper sections 3.3 and 3.4)."""
