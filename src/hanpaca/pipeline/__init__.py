"""One module a stage; the order stands here."""
