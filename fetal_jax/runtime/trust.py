"""Whether only this user, and the machine's administrator, can write to a folder whose files are run as they are."""

import grp
import os
import pathlib
import pwd
import stat


def why_not_own(folder: pathlib.Path) -> str | None:
  """Returns in words how others can put files into a folder, or have done so; None if they cannot.

  The folder, its files, and the folders above it are looked at; links are followed to where they lead.
  """
  folder = folder.resolve()
  status = folder.stat()
  if not stat.S_ISDIR(status.st_mode):
    return 'it is no folder'
  if why := _why_foreign(status):
    return why
  for above in folder.parents:
    status = above.stat()
    # In a sticky folder, such as /tmp, only owners rename what is in it.
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
      return f'{above} can be written by everybody'
  with os.scandir(folder) as entries:
    for entry in entries:
      if entry.is_symlink():
        return f'{entry.name} in it is a link'
      if why := _why_foreign(entry.stat(follow_symlinks=False)):
        return f'{entry.name} in it: {why}'
  return None


def _why_foreign(status: os.stat_result) -> str | None:
  """Returns who else can write a file or folder."""
  if status.st_uid not in (os.geteuid(), 0):
    return f'it belongs to another user ({status.st_uid})'
  if status.st_mode & stat.S_IWOTH:
    return 'everybody can write it'
  if status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid):
    return f'its group ({status.st_gid}) can write it'
  return None


def _is_private(group: int) -> bool:
  """Returns whether a group is this user's alone, as many systems give one to each user."""
  try:
    me, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
  except KeyError:  # of a container without such entries
    return False
  return me.pw_gid == group and found.gr_name == me.pw_name and set(found.gr_mem) <= {me.pw_name}
