"""Judgement of classifiers and of synthetic images."""
