"""The mathematics of diffusion: pure functions of arrays."""
