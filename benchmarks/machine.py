"""The machine that the figures were measured on."""

import os
import pathlib
import platform
import re
from importlib import metadata
from typing import Any

import jax


def cpu_name() -> str:
  """Returns the processor's own name, for example `AMD EPYC`."""
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  text = cpuinfo.read_text() if cpuinfo.is_file() else ''
  if match := re.search(r'^model name\s*:\s*(.+)$', text, re.MULTILINE):
    return match[1].strip()
  return platform.processor() or platform.machine()


def cores() -> int:
  """Cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def device_name() -> str:
  """For example `AMD EPYC, 2 cores` or `NVIDIA H100 80GB HBM3`."""
  if jax.default_backend() == 'cpu':
    return f'{cpu_name()}, {cores()} core{"s" if cores() > 1 else ""}'
  return str(jax.devices()[0].device_kind)


def slug() -> str:
  """Returns the machine's file name."""
  return re.sub(r'[^a-z0-9]+', '-', device_name().lower()).strip('-')


def versions() -> dict[str, str]:
  """Returns the versions of Python and of the libraries that compute."""
  found = {'python': platform.python_version()}
  for package in ('jax', 'jaxlib', 'flax'):
    found[package] = metadata.version(package)
  return found


def describe() -> dict[str, Any]:
  """Device, processor, memory and system."""
  pages = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') if hasattr(os, 'sysconf') else 0
  return {
    'device': device_name(),
    'backend': jax.default_backend(),
    'cpu': cpu_name(),
    'cores': cores(),
    'memory_gib': round(pages / 2**30, 1),
    'system': f'{platform.system()} {".".join(platform.release().split(".")[:2])}',
  }
