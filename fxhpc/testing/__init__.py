"""What makes time, links and processes of fxhpc controllable in tests; for users' tests too."""
