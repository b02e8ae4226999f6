"""Use cases: what the gateway does, over the ports of core."""
