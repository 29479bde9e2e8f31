"""New pieces that leave the text of other scripts alone."""
