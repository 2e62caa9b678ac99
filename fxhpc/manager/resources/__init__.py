"""What a node has, who gets what of it, and how much of it is used."""
