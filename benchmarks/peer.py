"""The other end of `torch_server`: PyTorch in a process of its own, asked for one measurement at a time.

Between questions it waits on a pipe, so its threads sleep while JAX is measured, and JAX's while it is.
"""

import json
import pathlib
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import ROOT


class PeerError(RuntimeError):
  """The peer's message when it could not do as asked."""


class Peer:
  """A PyTorch process.

  Attributes:
    available: whether it runs; if not, one line has said why.
    versions: of its libraries.
  """

  def __init__(self, python: str) -> None:
    self._folder = tempfile.TemporaryDirectory(prefix='benchmarks_')
    self._process: subprocess.Popen[str] | None = None
    self.versions: dict[str, str] = {}
    try:
      self._process = subprocess.Popen(
        [python, '-m', 'benchmarks.torch_server'],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
      )
      self.versions = self.call('hello')['versions']
    except (PeerError, OSError) as error:
      print(f"  peers skipped: {error}; install '.[bench]' or pass --peer_python", flush=True)
      self.close()

  @property
  def available(self) -> bool:
    return self._process is not None

  def call(
    self, command: str, arrays: Mapping[str, np.ndarray] | None = None, **values: Any
  ) -> dict[str, Any]:
    """Sends a command with arrays and plain values, waits for the answer; its arrays are under 'arrays'.

    Raises:
      PeerError: it could not do so, or ended.
    """
    if self._process is None or self._process.stdin is None or self._process.stdout is None:
      raise PeerError('no PyTorch')
    if arrays is not None:
      path = pathlib.Path(self._folder.name) / 'to_peer.npz'
      np.savez(path, **dict(arrays))
      values['arrays'] = str(path)
    try:
      self._process.stdin.write(json.dumps({'command': command, **values}) + '\n')
      self._process.stdin.flush()
      line = self._process.stdout.readline()
    except BrokenPipeError:
      line = ''
    if not line:
      raise PeerError('the PyTorch process ended')
    reply = json.loads(line)
    if 'error' in reply:
      raise PeerError(reply['error'])
    if 'arrays' in reply:
      with np.load(reply['arrays']) as file:
        reply['arrays'] = dict(file)
    return reply

  def close(self) -> None:
    """Ends the process."""
    if self._process is not None:
      if self._process.stdin is not None:
        self._process.stdin.close()
      try:
        self._process.wait(timeout=20)
      except subprocess.TimeoutExpired:
        self._process.kill()
        self._process.wait()
      if self._process.stdout is not None:
        self._process.stdout.close()
    self._process = None
    self._folder.cleanup()
