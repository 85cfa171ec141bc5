"""ONE run: the SimPy model. Processes and resources, nothing else."""
