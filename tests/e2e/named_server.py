"""`python -m tests.e2e.named_server NAME,NAME`: the server, for which these names lead to this machine.

Some providers are recognised by the host of their endpoint, so their tests need that host's name. All else of the
server is as it is; the addresses behind names are checked as ever.
"""

from __future__ import annotations

import functools
import socket
import sys
from collections.abc import Sequence

from server import app
from server.__main__ import main
from server.providers.transport.guard import GuardedResolver
from server.providers.transport.resolver import Address, system_resolver


async def _look_up(names: frozenset[str], host: str, port: int) -> Sequence[Address]:
    if host in names:
        return (Address("127.0.0.1", port, socket.AF_INET),)
    return await system_resolver(host, port)


if __name__ == "__main__":
    names = frozenset(sys.argv.pop().split(","))
    resolver = functools.partial(GuardedResolver, resolver=functools.partial(_look_up, names))
    setattr(app, GuardedResolver.__name__, resolver)
    sys.argv = ["dragoman", "serve"]
    main()
