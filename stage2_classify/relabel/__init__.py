"""Labels that are probably wrong, and the page to look through them."""
