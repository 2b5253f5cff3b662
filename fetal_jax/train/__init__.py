"""Training: one loop, two tasks (diffusion with its guide, classifiers)."""
