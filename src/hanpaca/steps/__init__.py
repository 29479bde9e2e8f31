"""What a user does: one file a verb, one public function in it."""
