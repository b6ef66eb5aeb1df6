"""Views: tables whose rows follow from the changes of other tables."""
