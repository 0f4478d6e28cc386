"""Room on the disk: how much there is, and the ballast that goes overboard when there is none.

HDF5 does not survive a full disk: writes raise, and closing may end the process. So a recording
stops while there is still a reserve, and a file of ballast lies ready to be deleted should somebody
else fill the disk faster than that is seen.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from coldframe.errors import StorageError


def free_bytes(folder: Path, used: int = 0) -> int:
    """How much more may be written in `folder`: the disk's free space, or what the limit on file
    sizes (RLIMIT_FSIZE, systemd's LimitFSIZE) leaves to a file of `used` bytes."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return free if limit == resource.RLIM_INFINITY else min(free, max(0, limit - used))


class Ballast:
    """A file that takes up room until room is needed."""

    def __init__(self, folder: Path, nbytes: int):
        self.path = folder / f".ballast-{os.getpid()}"
        self.nbytes = nbytes
        if not nbytes:
            return
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, nbytes)
        except OSError as error:
            self.drop()
            raise StorageError(
                f"{folder}: no room for {nbytes} bytes of ballast: {error}"
            ) from None
        finally:
            os.close(descriptor)

    def drop(self) -> None:
        """Overboard; a second time does nothing."""
        self.path.unlink(missing_ok=True)
