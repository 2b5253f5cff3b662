"""Images in: sources, splits, the prepare stage, batches."""
