"""Web pages over the core; nothing imports it."""
