"""What a model file holds, shown: its nodes, signatures and variables, and a picture of it."""
