"""What is made small: the bound of the world model, and the imagined returns with a minus."""
