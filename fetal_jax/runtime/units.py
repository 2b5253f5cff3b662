"""Durations and sizes in words."""


def duration(seconds: float) -> str:
  """For example `0.4 s`, `45 s`, `12 min 5 s`, `7 h 20 min`, `4 days 2 h`."""
  whole = round(seconds)
  if whole < 60:
    return f'{whole} s' if whole or not seconds else f'{seconds:.1f} s'
  if whole < 3600:
    return f'{whole // 60} min {whole % 60} s'
  if whole < 48 * 3600:
    return f'{whole // 3600} h {whole % 3600 // 60} min'
  return f'{whole // 86_400:,} days {whole % 86_400 // 3600} h'


def size(count: float) -> str:
  """Bytes to two or three digits, for example `1.9 GiB`, `210 MiB`, `12 KiB`."""
  for power, unit in ((30, 'GiB'), (20, 'MiB')):
    if count >= 2**power:
      value = count / 2**power
      return f'{value:.1f} {unit}' if value < 9.95 else f'{value:.0f} {unit}'
  return f'{count / 2**10:.0f} KiB'
