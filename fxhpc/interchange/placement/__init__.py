"""Tasks with needs of their own: whose turn it is, on which nodes, and why they wait."""
