"""What a run will cost, said before anything is spent: `--stage=plan`."""
