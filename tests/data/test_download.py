import contextlib
import hashlib
import http.server
import threading
import urllib.request

import pytest

from fetal_jax.data import download
from fetal_jax.errors import UserError

CONTENT = bytes(range(256)) * 20_000  # several chunks
MD5 = hashlib.md5(CONTENT).hexdigest()


@contextlib.contextmanager
def serving(content=CONTENT, *, length=None, status=200):
  """A server of one file; yields its address and the list of requests it had."""
  requests = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      requests.append(self.path)
      self.send_response(status)
      self.send_header('Content-Length', str(len(content) if length is None else length))
      self.end_headers()
      self.wfile.write(content)

    def log_message(self, *args):
      del args

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_port}/planes.zip', requests
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
  monkeypatch.setattr(urllib.request, '_opener', None)  # it keeps the proxies of its first use
  monkeypatch.setenv('no_proxy', '*')


def test_fetches_once(tmp_path):
  path = tmp_path / 'deep' / 'planes.zip'
  with serving() as (url, requests):
    assert download.fetch(url, path, md5=MD5) == path
    assert download.fetch(url, path, md5=MD5) == path
  assert path.read_bytes() == CONTENT
  assert len(requests) == 1
  assert [p.name for p in path.parent.iterdir()] == ['planes.zip']


@pytest.mark.parametrize(
  ('server', 'message'),
  [
    ({'content': CONTENT[:-1]}, 'has MD5 .*, not the published'),
    ({'length': len(CONTENT) + 5}, 'failed .*5 more expected'),
    ({'status': 404}, 'failed .*404'),
  ],
)
def test_a_bad_download_leaves_nothing(tmp_path, server, message):
  with serving(**server) as (url, _):
    with pytest.raises(UserError, match=f'{message}.*set --config.data.path'):
      download.fetch(url, tmp_path / 'planes.zip', md5=MD5)
  assert not list(tmp_path.iterdir())


def test_no_network(tmp_path):
  with serving() as (url, _):
    pass
  with pytest.raises(UserError, match=r'failed .*refused'):
    download.fetch(url, tmp_path / 'planes.zip', md5=MD5)


def test_proxy_of_the_environment_is_used(tmp_path, monkeypatch):
  with serving() as (proxy, requests):
    monkeypatch.delenv('no_proxy')
    monkeypatch.setenv('http_proxy', proxy)
    download.fetch('http://nowhere.invalid/planes.zip', tmp_path / 'planes.zip', md5=MD5)
  assert requests == ['http://nowhere.invalid/planes.zip']
