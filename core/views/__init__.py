"""Rows of derived views, as far as they follow from the rows before them."""
