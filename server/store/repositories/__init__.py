"""The store ports over SQL, one file a port; `rows` maps rows to what core calls them."""
