"""Many runs of one description: what changes when something in it does."""
