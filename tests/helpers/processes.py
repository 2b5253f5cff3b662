"""Processes that tests start."""

import os


def with_devices(count: int) -> dict[str, str]:
  """Returns this process's environment for one that has `count` virtual devices."""
  flags = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={count}'
  return {**os.environ, 'XLA_FLAGS': flags.strip()}
