"""envoy.yaml with TLS: callers to Envoy, and Envoy to the server (docs/tls.md).

python tools/envoy_tls.py [--no-client-certificates] > envoy-tls.yaml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]

# Where envoy.yaml takes each block: beneath this line, which it has once.
_FILTER_CHAIN = "    - filters:\n"
_CLUSTERS = {"  - name: server\n": "h2", "  - name: edge\n": "http/1.1"}  # each with what it speaks
_ALPN = "[h2]"
_ADMIN = "\nadmin:\n"
_NODE = "\nnode: {id: edge, cluster: dragoman} # whoever reads secrets must have a name\n"
_MUTUAL = "      # From here on: mutual TLS."


def with_tls(template: str, listener: str, cluster: str, *, client_certificates: bool = True) -> str:
    """envoy.yaml with edge/tls/listener.yaml and edge/tls/cluster.yaml in their places.

    client_certificates: whether callers must show one. Raises ValueError where a place is not there exactly once.
    """
    places = [(template, place) for place in (_ADMIN, _FILTER_CHAIN, *_CLUSTERS)]
    for text, place in (*places, (listener, _MUTUAL), (cluster, _ALPN)):
        if text.count(place) != 1:
            raise ValueError(f"{place.strip()!r} must stand exactly once, stands {text.count(place)} times")
    if not client_certificates:
        listener = listener.partition(_MUTUAL)[0]
    chain = "    -" + _indented(listener, 6)[5:] + "      filters:\n"
    template = template.replace(_ADMIN, _NODE + _ADMIN).replace(_FILTER_CHAIN, chain)
    for place, protocol in _CLUSTERS.items():
        template = template.replace(place, place + _indented(cluster.replace(_ALPN, f"[{protocol}]"), 4))
    return template


def _indented(block: str, spaces: int) -> str:
    lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
    return "".join(f"{' ' * spaces}{line}\n" for line in lines)


def main() -> None:
    """Write it to the standard output."""
    parser = argparse.ArgumentParser(description="Write envoy.yaml with TLS to the standard output.")
    parser.add_argument("--no-client-certificates", action="store_true", help="callers need no certificate")
    wanted = parser.parse_args()
    names = ("envoy.yaml", "edge/tls/listener.yaml", "edge/tls/cluster.yaml")
    template, listener, cluster = ((_ROOT / name).read_text() for name in names)
    sys.stdout.write(with_tls(template, listener, cluster, client_certificates=not wanted.no_client_certificates))


if __name__ == "__main__":
    main()
