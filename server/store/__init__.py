"""The store: configurations, keys and counts in SQLite or Postgres, credentials sealed; and its picture in memory."""
