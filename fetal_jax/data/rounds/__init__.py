"""Rounds of synthetic images on disk: their plan, their writer, their reader."""
