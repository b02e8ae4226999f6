"""One file a migration, numbered; never changed once released."""
