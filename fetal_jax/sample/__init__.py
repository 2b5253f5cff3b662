"""Sampling: from a program, and as the stage that draws the synthetic rounds."""
