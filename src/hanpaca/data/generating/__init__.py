"""Instructions made with another model: what it is asked, and which of its rows are kept."""
