"""A file comes whole through whatever a server, a line or a disk does to it, or one line says why not."""

import contextlib
import email.utils
import fcntl
import gc
import hashlib
import http.client
import http.server
import os
import random
import re
import shutil
import socket
import struct
import threading
import urllib.parse

import pytest
from helpers import hostile

from fetal_jax.data.sources import download
from fetal_jax.runtime.errors import UserError

CONTENT = random.Random(0).randbytes(700_001)
MD5 = hashlib.md5(CONTENT).hexdigest()
DATE = email.utils.formatdate(1_600_000_000, usegmt=True)


class Server(http.server.ThreadingHTTPServer):
  """Serves one file, and does to the n-th request what `answers[n]` says; to those after them, the last.

  Attributes:
    requests: of each request, its path and headers.
    sent: bytes of content that went out.
  """

  def __init__(self, *answers, content=CONTENT, etag='"one"'):
    super().__init__(('127.0.0.1', 0), Handler)
    self.answers, self.content, self.etag = answers or (whole,), content, etag
    self.requests, self.sent, self.closing = [], 0, threading.Event()
    self.url = f'http://127.0.0.1:{self.server_port}/planes.zip'

  def handle_error(self, request, client_address):
    """Clients that hang up are what these tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    server = self.server
    server.requests.append((self.path, dict(self.headers)))
    server.answers[min(len(server.requests), len(server.answers)) - 1](self)

  do_CONNECT = do_GET

  def start(self):
    """The first byte that is asked for, as a correct server understands the request."""
    asked = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
    same = self.headers.get('If-Range', self.server.etag) in (self.server.etag, DATE)
    return int(asked[1]) if asked and same else 0

  def reply(self, status, body=b'', **headers):
    self.send_response(status)
    for name, value in {'Content_Length': len(body), 'ETag': self.server.etag, **headers}.items():
      if value is not None:
        self.send_header(name.replace('_', '-'), value)
    self.end_headers()
    self.wfile.write(body)
    self.server.sent += len(body)

  def serve(self, count=None, **headers):
    """Answers correctly, but with `count` bytes at most before it stops."""
    start, size = self.start(), len(self.server.content)
    if start >= size:
      return self.reply(416, Content_Range=f'bytes */{size}')
    if start:
      headers.setdefault('Content_Range', f'bytes {start}-{size - 1}/{size}')
    body = self.server.content[start:][:count]
    self.reply(206 if start else 200, body, **{'Content_Length': size - start, **headers})

  def log_message(self, *args):
    del args


def whole(handler):
  handler.serve()


def cut(count, *, reset=False):
  """`count` bytes and then the connection is closed, or torn down."""

  def answer(handler):
    handler.serve(count)
    if reset:
      handler.wfile.flush()
      handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
      handler.connection.close()

  return answer


def status(code, **headers):
  return lambda handler: handler.reply(code, b'no', **headers)


def ignoring_range(count=None, **headers):
  """Always from the beginning, up to `count` bytes."""

  def answer(handler):
    body = handler.server.content[:count]
    handler.reply(200, body, **{'Content_Length': len(handler.server.content), **headers})

  return answer


def stall(count):
  def answer(handler):
    handler.serve(count)
    handler.wfile.flush()
    handler.server.closing.wait()

  return answer


@contextlib.contextmanager
def serving(*answers, **kwargs):
  server = Server(*answers, **kwargs)
  thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
  thread.start()
  try:
    yield server
  finally:
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setenv('no_proxy', '*')
  monkeypatch.setattr(download, 'TIMEOUT_SECONDS', 20.0)  # only a hanging test waits that long
  monkeypatch.setattr(download, 'CHUNK', 1 << 14)


@pytest.fixture
def fetch(tmp_path):
  """Downloads to `path` in a folder of its own; `fetch.pauses` are the seconds it would have waited."""

  def run(server, **kwargs):
    url = server if isinstance(server, str) else server.url
    return download.fetch(url, run.path, **{'md5': MD5, 'sleep': run.pauses.append, **kwargs})

  run.path, run.part, run.pauses = tmp_path / 'deep' / 'planes.zip', tmp_path / 'deep' / 'planes.zip.part', []
  return run


def leave_part(fetch, content, tag='"one"'):
  """What an earlier run may have left."""
  fetch.path.parent.mkdir(exist_ok=True)
  fetch.part.write_bytes(content)
  fetch.part.with_name(f'{fetch.part.name}.tag').write_text(tag)


def assert_whole(fetch):
  assert fetch.path.read_bytes() == CONTENT
  assert [path.name for path in fetch.path.parent.iterdir()] == ['planes.zip']


def ranges(server):
  return [headers.get('Range') for _, headers in server.requests]


def test_fetches_once(fetch):
  with serving() as server:
    assert fetch(server, size=len(CONTENT)) == fetch.path
    assert fetch(server) == fetch.path
  assert_whole(fetch)
  assert ranges(server) == [None]


def test_a_file_that_was_damaged_since_is_fetched_again(fetch):
  fetch.path.parent.mkdir()
  fetch.path.write_bytes(CONTENT[:-1])
  with serving() as server:
    fetch(server)
  assert_whole(fetch)


@pytest.mark.parametrize('seed', range(5))
def test_goes_on_wherever_the_connection_breaks(fetch, seed):
  rng = random.Random(seed)
  cuts = [cut(rng.randrange(1, 100_000), reset=rng.random() < 0.5) for _ in range(12)]
  with serving(*cuts, whole) as server:
    fetch(server, size=len(CONTENT))
  assert_whole(fetch)
  starts = [0 if r is None else int(r.removeprefix('bytes=').removesuffix('-')) for r in ranges(server)]
  assert starts == sorted(starts)
  assert all(headers['If-Range'] == '"one"' for _, headers in server.requests if 'Range' in headers)
  assert starts[-1] > 0
  assert all(0 < pause <= 64 for pause in fetch.pauses)


def test_a_clean_cut_costs_no_byte(fetch):
  with serving(cut(100_000), cut(1), cut(300_000), whole) as server:
    fetch(server)
  assert ranges(server) == [None, 'bytes=100000-', 'bytes=100001-', 'bytes=400001-']
  assert server.sent == len(CONTENT)
  assert_whole(fetch)


def test_the_next_run_goes_on(fetch):
  with serving(cut(100_000), status(503)) as server:
    message = hostile.refusal(fetch, server)
  assert '503' in message
  assert f'100,000 bytes are kept in {fetch.part}' in message
  assert fetch.part.read_bytes() == CONTENT[:100_000]
  with serving() as server:
    fetch(server)
  assert ranges(server) == ['bytes=100000-']
  assert_whole(fetch)


def test_a_file_that_changed_in_between_is_fetched_from_its_beginning(fetch):
  with serving(status(503)) as server:
    leave_part(fetch, b'x' * 100_000, tag='"another"')
    hostile.refusal(fetch, server)
  with serving() as server:
    fetch(server)
  assert server.requests[0][1]['If-Range'] == '"another"'
  assert server.sent == len(CONTENT)
  assert_whole(fetch)


@pytest.mark.parametrize(
  ('etag', 'date', 'expected'),
  [('"one"', DATE, '"one"'), ('W/"one"', DATE, DATE), (None, DATE, DATE), ('W/"one"', None, None)],
)
def test_what_says_that_the_file_is_still_the_same(fetch, etag, date, expected):
  answer = lambda handler: handler.serve(1000, Last_Modified=date)  # noqa: E731
  with serving(answer, whole, etag=etag) as server:
    fetch(server)
  assert server.requests[1][1].get('If-Range') == expected
  assert_whole(fetch)


def test_a_damaged_tag_is_not_sent(fetch):
  leave_part(fetch, CONTENT[:1000], tag='"a"\r\nX: y\0')
  with serving() as server:
    fetch(server)
  assert 'If-Range' not in server.requests[0][1]
  assert_whole(fetch)


@pytest.mark.parametrize(
  'answer',
  [
    ignoring_range(),
    lambda handler: handler.serve(Content_Range='bytes 0-9/10'),
    lambda handler: handler.serve(Content_Range=None),
    lambda handler: handler.serve(Content_Range='nonsense'),
  ],
)
def test_another_part_than_was_asked_for_starts_over(fetch, answer):
  leave_part(fetch, CONTENT[:5000])
  with serving(answer, whole) as server:
    fetch(server)
  assert ranges(server)[0] == 'bytes=5000-'
  assert_whole(fetch)


@pytest.mark.parametrize('size', [None, len(CONTENT)])
def test_a_part_that_has_all_is_enough(fetch, size):
  leave_part(fetch, CONTENT)
  with serving() as server:
    fetch(server, size=size)
  assert server.sent == (0 if size else len(b''))
  assert len(server.requests) == (0 if size else 1)  # 416
  assert_whole(fetch)


def test_a_part_that_has_more_than_all_starts_over(fetch):
  leave_part(fetch, CONTENT + b'more')
  with serving() as server:
    fetch(server, size=len(CONTENT))
  assert_whole(fetch)


@pytest.mark.parametrize('code', [401, 403, 404, 410])
def test_a_refusal_is_believed_at_once(fetch, code):
  with serving(status(code)) as server:
    assert re.search(f'failed .*{code}.*set --config.data.path', hostile.refusal(fetch, server))
  assert len(server.requests) == 1
  assert not fetch.pauses
  assert not list(fetch.path.parent.iterdir())


def test_a_busy_server_is_given_the_time_it_asks_for(fetch):
  answers = [status(503, Retry_After='120'), status(429, Retry_After='1e9'), status(500, Retry_After=DATE)]
  with serving(*answers, whole) as server:
    fetch(server)
  assert fetch.pauses[:2] == [120, 600]
  assert 2 <= fetch.pauses[2] <= 4
  assert_whole(fetch)


def test_pauses_double_up_to_a_minute_and_are_not_the_same_for_all(fetch, tmp_path):
  with serving(status(503)) as server:
    assert 'failed (HTTP Error 503: Service Unavailable), 8 times' in hostile.refusal(fetch, server)
    other = []
    with pytest.raises(UserError):
      download.fetch(server.url, tmp_path / 'other.zip', md5=MD5, sleep=other.append)
  assert len(fetch.pauses) == download.ATTEMPTS - 1
  for pause, longest in zip(fetch.pauses, (1, 2, 4, 8, 16, 32, 60), strict=True):
    assert longest / 2 <= pause <= longest
  assert fetch.pauses != other


def test_what_comes_slowly_may_break_often(fetch):
  cuts = [answer for _ in range(6) for answer in (cut(10), *[status(503)] * (download.ATTEMPTS - 1))]
  with serving(*cuts, whole) as server:
    fetch(server)
  assert len(server.requests) == 6 * download.ATTEMPTS + 1
  assert_whole(fetch)


def test_a_server_that_stalls(fetch, monkeypatch):
  monkeypatch.setattr(download, 'TIMEOUT_SECONDS', 0.2)
  with serving(stall(70_000), stall(0), whole) as server:
    fetch(server)
  assert ranges(server)[:2] == [None, 'bytes=70000-']
  assert_whole(fetch)


def test_a_length_that_is_never_reached(fetch):
  answer = lambda handler: handler.reply(200, CONTENT, Content_Length=len(CONTENT) + 5)  # noqa: E731
  with serving(answer) as server:
    assert re.search('failed .*5 bytes are missing.*8 times', hostile.refusal(fetch, server))
  assert len(server.requests) == 1 + download.ATTEMPTS  # the first brought something


@pytest.mark.parametrize('length', [100, -7, 'many', None])
def test_a_length_that_is_too_short_or_none(fetch, length):
  """Without a length a file that was cut looks whole; the size or the checksum tells."""
  answer = lambda handler: handler.reply(200, CONTENT, Content_Length=length)  # noqa: E731
  with serving(answer) as server:
    if length == 100:
      assert 'MD5' in hostile.refusal(fetch, server)
      assert not list(fetch.path.parent.iterdir())
    else:
      fetch(server)
      assert_whole(fetch)
  with serving(lambda handler: handler.reply(200, CONTENT[:9], Content_Length=None), whole) as server:
    fetch.path.unlink(missing_ok=True)
    fetch(server, size=len(CONTENT))
  assert_whole(fetch)


def test_another_size_is_refused_before_it_is_read(fetch):
  with serving(content=CONTENT * 20) as server:
    message = hostile.refusal(fetch, server, size=len(CONTENT))
  assert 'the server has 14,000,020 bytes where 700,001 are published; run it again, or download' in message
  assert len(server.requests) == 1
  assert not list(fetch.path.parent.iterdir())


def test_wrong_bytes_are_deleted_and_said(fetch):
  wrong = b'<html>'.ljust(len(CONTENT))
  with serving(content=wrong) as server:
    message = hostile.refusal(fetch, server, size=len(CONTENT))
  found = hashlib.md5(wrong).hexdigest()
  assert f'MD5 {found}, not the published {MD5}, and is deleted; run it again' in message
  assert not list(fetch.path.parent.iterdir())
  with serving() as server:
    fetch(server)
  assert ranges(server) == [None]
  assert_whole(fetch)


def test_no_network(fetch):
  with serving() as server:
    pass
  assert re.search(r'failed .*refused.*8 times', hostile.refusal(fetch, server))
  assert 'planes.zip: download failed' in hostile.refusal(fetch, 'http://127.0.0.1:1/planes.zip')


def test_redirects_are_followed_but_not_round_and_round(fetch):
  with serving() as there, serving(lambda handler: handler.reply(302, Location=there.url)) as server:
    fetch(server)
  assert_whole(fetch)
  fetch.path.unlink()
  with serving(lambda handler: handler.reply(302, Location='/planes.zip')) as server:
    assert 'infinite loop' in hostile.refusal(fetch, server)
  for nowhere in ('file:///etc/passwd', 'http://127.0.0.1:x/'):
    with serving(lambda handler, nowhere=nowhere: handler.reply(302, Location=nowhere)) as server:
      hostile.refusal(fetch, server)


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_redirect_to_no_address(fetch):
  with serving(lambda handler: handler.reply(302, Location='http://[')) as server:
    hostile.refusal(fetch, server)
  gc.collect()  # urllib forgets to close the connection


def forward(handler):
  """What a proxy does: asks the origin for the address it was given."""
  address = urllib.parse.urlsplit(handler.path)
  connection = http.client.HTTPConnection(address.netloc)
  headers = {name: value for name, value in handler.headers.items() if name in ('Range', 'If-Range')}
  connection.request('GET', address.path, headers=headers)
  response = connection.getresponse()
  body = response.read()
  kept = {name: response.headers[name] for name in ('Content-Range', 'ETag')}
  handler.reply(response.status, body, **kept)
  connection.close()


def test_goes_through_the_proxy_of_the_environment(fetch, monkeypatch):
  with serving() as origin, serving(forward) as proxy:
    monkeypatch.delenv('no_proxy')
    monkeypatch.setenv('http_proxy', proxy.url)
    leave_part(fetch, CONTENT[:1000])
    fetch(origin)
  assert [path for path, _ in proxy.requests] == [origin.url]
  assert ranges(origin) == ['bytes=1000-']
  assert_whole(fetch)


def test_asks_the_proxy_for_a_tunnel_to_a_secure_server(fetch, monkeypatch):
  monkeypatch.setattr(download, 'ATTEMPTS', 2)
  with serving(status(407)) as proxy:
    monkeypatch.delenv('no_proxy')
    monkeypatch.setenv('https_proxy', proxy.url)
    message = hostile.refusal(fetch, 'https://nowhere.invalid/planes.zip')
  assert 'Tunnel connection failed: 407' in message
  assert proxy.requests[0][0] == 'nowhere.invalid:443'


def test_full_disk(fetch, monkeypatch):
  if not os.path.exists('/dev/full'):
    pytest.skip('no /dev/full')
  open_own = download.files.open_own

  def full(path, mode, *, buffering):
    open_own(path, mode).close()
    return open('/dev/full', mode, buffering)

  monkeypatch.setattr(download.files, 'open_own', full)
  monkeypatch.setattr(download, '_append', _appending_to(fetch.part))
  with serving() as server:
    message = hostile.refusal(fetch, server)
  assert f'{fetch.part}: cannot be written (No space left on device); make room' in message
  assert len(server.requests) == 1


def _appending_to(path):
  """`_append`, whose errors name this file: /dev/full has another name."""

  def append(f, chunk):
    with download._on_disk(path):
      f.write(chunk)

  return append


@pytest.mark.parametrize('name', ['part', 'part.tag'])
@pytest.mark.parametrize('kind', ['symbolic', 'hard'])
def test_a_link_in_the_place_of_what_is_kept_is_not_followed(fetch, tmp_path, name, kind):
  victim, link = tmp_path / 'victim', fetch.path.with_name(f'planes.zip.{name}')
  victim.write_bytes(b'precious')
  fetch.path.parent.mkdir()
  (link.symlink_to if kind == 'symbolic' else link.hardlink_to)(victim)
  with serving() as server:
    if name == 'part':
      assert 'planes.zip.part: a link, or no plain file; remove it' in hostile.refusal(fetch, server)
    else:
      fetch(server)
  assert victim.read_bytes() == b'precious'


def test_what_another_program_has_begun_to_download_is_left(fetch):
  fetch.path.parent.mkdir()
  fetch.part.write_bytes(b'of a browser')
  with serving() as server:
    said = hostile.refusal(fetch, server)
  assert f'{fetch.part}: is there, and is no download of this command; move it away' in said
  assert fetch.part.read_bytes() == b'of a browser'
  assert not server.requests


def test_too_little_room_is_said_before_it_is_filled(fetch, monkeypatch):
  usage = shutil.disk_usage('/')._replace(free=600_000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
  with serving() as server:
    message = hostile.refusal(fetch, server)
    assert '700,001 bytes are to come, 600,000 are free; make room' in message
    leave_part(fetch, CONTENT[:200_000])  # now the rest fits
    fetch(server)
  assert_whole(fetch)


def test_two_runs_do_not_write_into_one_file(fetch):
  leave_part(fetch, CONTENT[:10])
  with serving() as server, open(fetch.part, 'ab') as held:
    fcntl.flock(held, fcntl.LOCK_EX)
    assert 'another run is downloading it' in hostile.refusal(fetch, server)
  assert not server.requests
  assert fetch.part.read_bytes() == CONTENT[:10]


def test_progress_goes_on_where_the_transfer_does(fetch, monkeypatch):
  shown = []

  class Progress(contextlib.nullcontext):
    def __init__(self, title, total, unit, *, done=0, log_seconds):
      super().__init__(self)
      assert (title, total, unit) == ('Downloading planes.zip', len(CONTENT) // 1000, 'MB')
      assert 1 <= log_seconds <= 10
      shown.append(done)

    def update(self, done):
      shown.append(done)

  monkeypatch.setattr(download, 'Progress', Progress)
  monkeypatch.setattr(download, 'MEGABYTE', 1000)
  with serving(cut(300_000), whole) as server:
    fetch(server)
  assert shown == sorted(shown)
  assert shown[0] == 0
  assert shown.count(300) >= 2  # the end of the first transfer, the start of the second
  assert shown[-1] == 700


@pytest.mark.parametrize(
  ('header', 'seconds'),
  [('0', 0), ('7', 7), (' 7 ', 7), ('99999', 600), (None, 0), ('', 0), ('nan', 0), ('inf', 600), ('-5', 0), ('1e3', 600),
   ('9' * 5000, 600), ('x', 0), ('Wed, 21 Oct 2026 07:28:00 GMT', 0)],
)  # fmt: skip
def test_how_long_a_server_may_ask_to_wait(header, seconds):
  assert download._seconds(header) == seconds
