"""The dev profile: what `make run` starts beside the server, never imported by the server itself."""
