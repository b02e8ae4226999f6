"""What stands behind the port in `server/providers/http.py`: the real client, its parts, and the fake."""
