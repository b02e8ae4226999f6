"""The same RPCs for the proxy beside gRPC's own server: gRPC's messages over HTTP/1.1 (docs/decisions/edge-hop.md)."""
