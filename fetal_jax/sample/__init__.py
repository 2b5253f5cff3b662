"""Synthetic data sets: label plan, sampling, storage, programmatic API."""
