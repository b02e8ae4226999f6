"""Another process on the same database: `python -m tests.store.other_process ACTION URL MASTER_KEY_FILE [WORKSPACE]`.

migrate: bring the schema up. create: make configurations without end, print each one's id once it is acknowledged.
create:N: make N of them. key: make a key, print its id.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from server.core.secret import Secret
from server.store.master_key import read_keyring
from server.store.schema import migrate
from server.store.store import StoreOptions, open_store
from tests.store.examples import a_config, a_key, now


async def main(action: str, url: Secret, master_key: Path, workspace_id: str = "") -> None:
    verb, _, count = action.partition(":")
    if verb == "migrate":
        await migrate(url)
        return
    async with open_store(StoreOptions(url=url), read_keyring(master_key), clock=now) as store:
        print("ready", flush=True)
        if verb == "key":
            print((await store.access.create_key(a_key(workspace_id))).id, flush=True)
            return
        for _ in itertools.repeat(None, int(count)) if count else itertools.repeat(None):
            config = a_config(workspace_id)
            sealed = await store.vault.seal(workspace_id, config.id, "secret", Secret("sk-of-" + config.id))
            created = await store.configs.create(a_config(workspace_id, id=config.id, sealed_secret=sealed))
            print(created.id, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Secret(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:]))
