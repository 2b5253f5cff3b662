"""What every command needs, and nothing of the subject: files, errors, devices, hosts, checkpoints, logs."""
