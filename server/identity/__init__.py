"""Callers whom somebody else vouches for: tokens (JWT) of an OpenID Connect issuer, verified with its published keys.

See docs/access-tokens.md. The issuer's documents come through the port `keys.Documents`: nothing here does HTTP.
"""
