"""The demo provider's parts: a real HTTP server that speaks Chat Completions, deterministic and offline."""
