"""Questions with options: the sets that are published, and a user's own, and how they are asked."""
