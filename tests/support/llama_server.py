"""`python -m tests.support.llama_server MODEL PORT KEY`: llama.cpp's own HTTP server, out of the package xllamacpp.

It was not written here, and answers by running a model. Says "listening on http://..." once it does.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module

if __name__ == "__main__":
    # By name: it has no types, and is not on every machine.
    xllamacpp = import_module("xllamacpp")
    model, port, key = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = int(port)
    params.api_keys = [key]
    params.model_alias = ["tiny"]
    params.n_ctx = 2048
    params.n_parallel = 1
    params.warmup = False
    params.use_jinja = True
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    threading.Event().wait()
